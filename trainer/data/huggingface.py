"""`data=huggingface`: data sets in the format of Hugging Face's `datasets` library; no code of a data set is run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.data.arrays.inputs import MemoryArray
from trainer.data.arrays.targets import read_targets
from trainer.data.frames import source_of_frames
from trainer.data.images.decode import DecodeSpec
from trainer.data.images.items import decode_items
from trainer.data.images.options import ImageOptions
from trainer.data.images.pool import Progress
from trainer.data.images.source import no_progress
from trainer.data.samples import Samples
from trainer.data.source import Source
from trainer.data.split import SPLIT_NAMES, SPLITS
from trainer.data.tables.table import TableSchema
from trainer.errors import Problem, UserError, out_of_memory, suggestions

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
TARGETS = ("label", "labels", "target", "fine_label", "y")
SPLIT = re.compile(rf"({'|'.join(sorted(SPLIT_NAMES, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)


def huggingface_dataset(
    name: str,
    image: str | None = None,
    target: str | None = None,
    task: str | None = None,
    missing: str | None = None,
    download: bool = False,
    size: int | list[int] | None = None,
    resize: int | None = None,
    schema: TableSchema | None = None,
    progress: Progress | None = None,
) -> Source:
    """Load a folder that `save_to_disk` has written, Parquet files, or a data set of the hub that has Parquet files.

    Args:
        name: a folder, a .parquet file, or `owner/name` on the hub, from the cache of the hub's library.
        image: the column of images; default: the only one. Without images, the other columns are those of a table.
        target: the column to predict; default: the only one of classes, or one of the usual names.
        task: of a table; see `trainer.data.tables.table.csv_table`.
        missing: of a table.
        download: fetch the Parquet files of a data set of the hub that are not in the cache.
        size: height and width of the images; None keeps them, if they are equal.
        resize: the shorter side is resized to this length first and the centre cropped; None squashes the image.
        schema: columns of a trained model.
        progress: called while images are decoded.

    Raises:
        UserError: the library or the data set is missing, or its columns cannot be used.
    """
    spec = ImageOptions(size, resize).spec()
    try:
        with _quiet():
            splits = _load(str(name), download=download)
    except ModuleNotFoundError as error:
        reason = "it is read by the library datasets, which is not installed"
        command = "pip install 'trainer-cli[huggingface]'"
        raise UserError(Problem("data", reason, given="huggingface", command=command)) from error
    columns = _columns(splits, name, image, target)
    if columns.image is None:
        return _table(splits, columns, task, missing, schema)
    return _images(splits, columns, spec, progress or no_progress)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let the library draw no progress bars while entered."""
    import datasets

    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


def _load(name: str, *, download: bool) -> dict[str, Any]:
    """Return the data sets of the library by split."""
    import datasets

    place = Path(name).expanduser()
    if not place.exists() and HUB_NAME.fullmatch(name):
        place = _from_hub(name, download=download)
    try:
        if (place / "dataset_dict.json").is_file() or (place / "state.json").is_file():
            loaded = datasets.load_from_disk(str(place))
            return _named(loaded if isinstance(loaded, dict) else {"train": loaded}, name)
        files = sorted(place.rglob("*.parquet")) if place.is_dir() else [place]
        if not place.exists() or not files or files[0].suffix != ".parquet" or not all(map(os.path.isfile, files)):
            what = "no Parquet files and no data set in this folder" if place.is_dir() else "no such folder or file"
            reason = f"{what}; expected a folder of save_to_disk, Parquet files, or owner/name"
            raise UserError(Problem("data.name", reason, given=name))
        by_split: dict[str, list[str]] = {}
        for file in files:
            named = SPLIT.match(file.name) or (SPLIT.fullmatch(file.parent.name) if file != place else None)
            by_split.setdefault(named[1] if named else "train", []).append(str(file))
        read = datasets.Dataset.from_parquet
        return _named({split: read(paths) for split, paths in by_split.items()}, name)
    except UserError:
        raise
    except Exception as error:  # pyarrow's and the library's own are not all public
        if out_of_memory(error):
            raise
        reason = f"not readable ({type(error).__name__}: {' '.join(str(error).split())[:200].rstrip('.')})"
        raise UserError(Problem("data.name", reason, given=name)) from error


def _from_hub(name: str, *, download: bool) -> Path:
    """Return the folder of a data set of the hub in the library's cache, which has nothing but its Parquet files."""
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, repo_type="dataset", allow_patterns="*.parquet", local_files_only=not download)
        )
    except Exception as error:  # of the network, of the hub, or of the cache
        if out_of_memory(error):
            raise
        reason = "neither a folder nor in the cache of the hub's library"
        if download:
            reason += f", and it could not be downloaded ({type(error).__name__})"
            raise UserError(Problem("data.name", reason, given=name)) from error
        raise UserError(Problem("data.name", reason, given=name, command="data.download=true")) from error


def _named(loaded: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return data sets by this program's names of splits; others are left out."""
    splits = {SPLIT_NAMES[split.lower()]: each for split, each in loaded.items() if split.lower() in SPLIT_NAMES}
    if "train" not in splits:
        reason = f"there is no train split, but {', '.join(map(str, loaded)) or 'nothing'}"
        raise UserError(Problem("data.name", reason, given=name))
    if empty := [split for split, each in splits.items() if not len(each)]:
        raise UserError(Problem("data.name", f"the {empty[0]} split has no samples", given=name))
    return {split: splits[split] for split in SPLITS if split in splits}


@dataclass(frozen=True)
class _Columns:
    """The columns of a data set: of images, of targets, and the names of the target's classes if it has them."""

    name: str
    image: str | None
    target: str
    classes: tuple[str, ...] | None


def _columns(splits: Mapping[str, Any], name: str, image: str | None, target: str | None) -> _Columns:
    import datasets

    features = splits["train"].features
    for key, typed in (("image", image), ("target", target)):
        if typed is not None and typed not in features:
            advice = suggestions(typed, list(features), most=20)
            raise UserError(Problem(f"data.{key}", f"{name} has no such column", given=typed, advice=advice))
    if differing := [split for split, each in splits.items() if each.features.keys() != features.keys()]:
        raise UserError(Problem("data.name", f"the columns of {differing[0]} are not those of train", given=name))
    images = [column for column, feature in features.items() if isinstance(feature, datasets.Image)]
    classes = [column for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    usual = [column for column in TARGETS if column in features]
    if target is None and len(classes) != 1 and not usual:
        reason = f"which column is to be predicted? There is: {', '.join(features)}"
        raise UserError(Problem("data.target", reason, command="data.target=COLUMN"))
    if image is None and len(images) > 1:
        raise UserError(Problem("data.image", f"there are {', '.join(images)}", command=f"data.image={images[0]}"))
    chosen = target or (classes[0] if len(classes) == 1 else usual[0])
    names = features[chosen].names if isinstance(features[chosen], datasets.ClassLabel) else None
    if image is not None and image not in images:
        raise UserError(Problem("data.image", f"column {image} holds no images", given=image))
    return _Columns(name, image or (images[0] if images else None), chosen, tuple(names) if names else None)


class _Items:
    """The images of a data set, each with 0 in place of its target."""

    def __init__(self, loaded: Any, column: str) -> None:
        self.loaded, self.column = loaded, column

    def __len__(self) -> int:
        return len(self.loaded)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.loaded[index][self.column]
        if image is None:
            raise ValueError("there is no image")
        return image, 0


def _images(splits: Mapping[str, Any], columns: _Columns, spec: DecodeSpec, progress: Progress) -> Source:
    arrays = {split: MemoryArray(columns.target, np.asarray(each[columns.target])) for split, each in splits.items()}
    if bad := [split for split, array in arrays.items() if array.dtype == object or array.array.ndim != 1]:
        reason = f"column {columns.target} of the {bad[0]} split has missing values, or several for an image"
        raise UserError(Problem("data.target", reason, check="label range"))
    if columns.classes is None:
        parsed = read_targets(arrays, None, None)
        targets, classes, task = parsed.values, parsed.classes, parsed.task
    else:
        targets = {split: torch.from_numpy(array.array.astype(np.int64)) for split, array in arrays.items()}
        classes, task = columns.classes, "classification"
    samples: dict[str, Samples] = {}
    for split, each in splits.items():
        samples[split] = decode_items(_Items(each, columns.image or ""), columns.name, spec, progress)
        samples[split].targets = targets[split]
    return Source(samples, classes, task)


def _table(
    splits: Mapping[str, Any], columns: _Columns, task: str | None, missing: str | None, schema: TableSchema | None
) -> Source:
    frames = {}
    for split, each in splits.items():
        frame = each.to_pandas()
        answers = frame.pop(columns.target)
        if columns.classes is not None:
            answers = answers.map(dict(enumerate(columns.classes)))
        frames[split] = (frame, answers)
    source = source_of_frames(frames)(task, missing)
    if schema is not None and [(c.name, c.categories) for c in schema.columns] != [
        (c.name, c.categories) for c in source.columns
    ]:
        reason = "its columns or their categories are not those that the model was trained on"
        raise UserError(Problem("data.name", reason, given=columns.name))
    return source
