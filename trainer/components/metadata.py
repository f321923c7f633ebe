"""What a checkpoint says of its run besides weights: written when a run begins, judged when a file is opened."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.components.preprocessing import Preprocessing
from trainer.config import schema
from trainer.config.schema import Config
from trainer.config.stored import parse_config
from trainer.data.dataset import Data
from trainer.data.images.decode import METHODS, ResizeSpec
from trainer.data.prepare import Prepare
from trainer.data.tables.prepare import TablePrepare
from trainer.data.tasks import Classification, Regression, Task
from trainer.errors import UserError, printable

IMAGE_FOLDER = "trainer.data.images.folder.image_folder"
OUTPUTS = ("logits", "probabilities", "log_probabilities")
MOST_NUMBERS = 2**28  # of one prepared sample: no image that is accepted comes near
MOST_CATEGORIES = 2**20  # of all columns
DTYPES = {"uint8": torch.uint8, "float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class CheckpointMetadata:
    """What a checkpoint holds besides weights, checked.

    Attributes:
        tree: the configuration; interpolations stand as text.
        prepare: raw samples to model inputs.
        wanted: what the weights that the run began with wanted of images.
        fingerprint: of the data that it was trained on.
        num_outputs: of the model, for each sample; None in older checkpoints.
        dtype: of a raw sample.
        class_weights: [classes], of the loss; None where all are alike, or in older checkpoints.
        whole: False in older checkpoints, which lack the class weights.
    """

    tree: dict[str, Any]
    task: Task
    prepare: Prepare | TablePrepare
    wanted: Preprocessing
    fingerprint: str
    num_outputs: int | None
    dtype: torch.dtype
    class_weights: Tensor | None
    whole: bool

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in label order; none for a regression."""
        return self.task.classes

    @property
    def geometry(self) -> ResizeSpec:
        """How image files were read.

        Raises:
            UserError: the configuration has sizes that are none.
        """
        data = self.tree.get("data")
        if not isinstance(data, dict) or data.get("_target_") != IMAGE_FOLDER:
            return ResizeSpec()
        size, resize = data.get("size"), data.get("resize")
        if self.wanted.size:
            size, resize = size or self.wanted.size, resize or self.wanted.resize
        interpolation = data.get("interpolation") or "bilinear"
        good = all(n is None or (type(n) is int and 0 < n < 65536) for n in (size, resize)) and interpolation in METHODS
        if not good or (resize is not None and (size is None or size > resize)):
            raise UserError(f"data.size={size} data.resize={resize} data.interpolation={interpolation}: no such sizes.")
        return ResizeSpec(size, resize, interpolation)

    @property
    def fills(self) -> str | None:
        """What was done about missing values of a table: `data.missing`."""
        data = self.tree.get("data")
        return data.get("missing") if isinstance(data, dict) else None

    @property
    def separator(self) -> str | None:
        """Of the table's file: `data.separator`; None where it was found in the header."""
        data = self.tree.get("data")
        given = data.get("separator") if isinstance(data, dict) else None
        return given if isinstance(given, str) and len(given) == 1 else None

    def part(self, *names: str) -> Config:
        """These keys of the configuration, typed; the others have their defaults.

        Raises:
            UserError: they are not what they should be, or read something when they are resolved.
        """
        chosen = {name: self.tree[name] for name in names if name in self.tree}
        if has_interpolation(chosen):
            raise UserError("it reads environment variables (${...}). If you trust it, add --trust.")
        parsed, problems = schema.parse(chosen)
        if problems:
            raise UserError(*problems)
        return parsed


def describe(config_text: str, data: Data, wanted: Preprocessing, num_outputs: int, weights: Tensor | None) -> dict:
    """What each checkpoint of a run holds besides weights; plain values only.

    Args:
        weights: [classes], of the loss.
    """
    task, first = data.task, data.splits["train"]
    dtype = first.samples.take(first.indices[:1]).dtype
    return {
        "config": config_text,
        "task": task.name,
        "classes": list(task.classes),
        "target_scale": list(task.scale) if task.scale else None,
        "output": task.output,
        "prepare": data.prepare.to_dict(),
        "wanted": asdict(wanted),
        "fingerprint": data.fingerprint,
        "num_outputs": num_outputs,
        "dtype": str(dtype).removeprefix("torch."),
        "class_weights": None if weights is None else weights.tolist(),
    }


def read(content: dict[str, Any], where: Path) -> CheckpointMetadata:
    """What a loaded checkpoint says, every value of it judged: the file may be anybody's.

    Raises:
        UserError: it is not whole, or says what cannot be.
    """
    try:
        text = content["config"]
        _expect(isinstance(text, str), "config")
        tree = parse_config(text, where)
        prepare = _prepare(content["prepare"])
        return CheckpointMetadata(
            tree,
            _task(content),
            prepare,
            _wanted(content.get("wanted")),
            str(content["fingerprint"]),
            _count(content.get("num_outputs")),
            _dtype(content.get("dtype"), prepare),
            _weights(content.get("class_weights"), len(content["classes"])),
            "class_weights" in content,
        )
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else f"{error}"
        raise UserError(f"{where}: not a whole checkpoint of this program: {reason}.") from error


def _expect(true: bool, name: str) -> None:
    if not true:
        raise ValueError(f"its {name} is not what it should be")


def _is_name(value: Any) -> bool:
    """A text without the characters by which a terminal is commanded."""
    return isinstance(value, str) and printable(value) == value


def _numbers(values: Any, name: str, *, above: float = -math.inf) -> tuple[float, ...]:
    _expect(isinstance(values, (list, tuple)), name)
    numbers = tuple(float(value) for value in values)
    _expect(all(math.isfinite(number) and number > above for number in numbers), name)
    return numbers


def _task(content: dict[str, Any]) -> Task:
    classes, output = content["classes"], content.get("output", "logits")
    _expect(isinstance(classes, (list, tuple)) and all(map(_is_name, classes)), "classes")
    _expect(output in OUTPUTS, "output")
    if content["task"] == "regression":
        scale = _numbers(content["target_scale"], "target_scale")
        _expect(len(scale) == 2 and scale[1] > 0, "target_scale")
        return Regression(scale[0], scale[1])
    _expect(len(classes) >= 2 and len(set(classes)) == len(classes), "classes")
    return Classification(tuple(classes), output=output)


def _prepare(stored: Any) -> Prepare | TablePrepare:
    _expect(isinstance(stored, dict), "prepare")
    if "columns" in stored:
        # Counted before they are copied: a list that the file holds once may stand for every column.
        columns = stored["columns"]
        _expect(sum(len(c["categories"]) + len(c["seen"]) for c in columns) <= MOST_CATEGORIES, "columns")
        table = TablePrepare.from_dict(stored)
        _expect(len(table.columns) > 0, "columns")
        for column in table.columns:
            texts, codes = column.categories, column.seen
            _expect(_is_name(column.name) and all(isinstance(text, str) for text in texts), "columns")
            _expect(all(type(code) is int and 0 <= code < len(texts) for code in codes), "columns")
            _numbers((column.fill, column.mean), "columns")
            _numbers((column.std,), "columns", above=0)
        return table
    prepare = Prepare.from_dict(stored)
    sizes = (*prepare.shape, *(prepare.size or ()), prepare.channels or 1)
    _expect(all(type(n) is int and n > 0 for n in sizes) and len(prepare.shape) in (1, 3), "prepare.shape")
    _expect(prepare.size is None or (len(prepare.size) == 2 and len(prepare.shape) == 3), "prepare.size")
    _expect(max(math.prod(prepare.shape), math.prod(prepare.output_shape)) <= MOST_NUMBERS, "prepare.shape")
    _expect(prepare.channels is None or prepare.shape[0] in (1, prepare.channels), "prepare.channels")
    channels = (1, prepare.shape[0], prepare.output_shape[0])
    _expect(len(_numbers(prepare.mean, "prepare.mean")) in channels, "prepare.mean")
    _expect(len(_numbers(prepare.std, "prepare.std", above=0)) in channels, "prepare.std")
    return prepare


def _wanted(stored: Any) -> Preprocessing:
    if stored is None:  # older than weights to start from
        return Preprocessing()
    wanted = Preprocessing(**stored)
    _expect(all(n is None or (type(n) is int and 0 < n < 65536) for n in (wanted.size, wanted.resize)), "wanted")
    return wanted


def _count(value: Any) -> int | None:
    _expect(value is None or (type(value) is int and 0 < value <= MOST_NUMBERS), "num_outputs")
    return value


def _dtype(name: Any, prepare: Prepare | TablePrepare) -> torch.dtype:
    if name is None:  # an older checkpoint: floats were taken as they are
        if isinstance(prepare, TablePrepare):
            return torch.float64
        as_is = not any(prepare.mean) and set(prepare.std) == {1.0}
        return torch.float32 if as_is else torch.uint8
    _expect(name in DTYPES, "dtype")
    return DTYPES[name]


def _weights(values: Any, count: int) -> Tensor | None:
    if values is None:
        return None
    numbers = _numbers(values, "class_weights", above=0)
    _expect(len(numbers) == count, "class_weights")
    return torch.tensor(numbers, dtype=torch.float64)


def has_interpolation(value: Any) -> bool:
    """Whether a stored tree would read something when it is resolved."""
    if isinstance(value, dict):
        return any(has_interpolation(inner) for pair in value.items() for inner in pair)
    if isinstance(value, list):
        return any(map(has_interpolation, value))
    return isinstance(value, str) and "${" in value
