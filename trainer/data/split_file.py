"""A file that names the split of each sample, such as the split.csv of another run.

Shape letter: N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from trainer.data.samples import Samples
from trainer.data.source import Source, SplitKey
from trainer.data.split import SPLIT_NAMES, SPLITS
from trainer.data.tables.formulas import unescaped
from trainer.data.tables.reading import stream
from trainer.data.tables.rows import BadRow
from trainer.errors import Problem, UserError, suggestions

KEY = "data.split_file"
COLUMNS = ("row", "file", "split")
UNNAMED = -2  # in no line of the file; -1: left out


def split_code(text: str) -> int | None:
    """Return the index in SPLITS that a text names, -1 for an empty one, None for any other."""
    if not text:
        return -1
    name = SPLIT_NAMES.get(text.lower())
    return None if name is None else SPLITS.index(name)


def row_numbers(splits: Mapping[str, Samples]) -> dict[str, Tensor]:
    """Return places in the user's data, int64 [N], of the samples of a source's splits, which are counted in turn."""
    rows, first = {}, 0
    for name, samples in splits.items():
        rows[name] = torch.arange(first, first + len(samples)) if samples.row_numbers is None else samples.row_numbers
        first += len(samples)
    return rows


def with_split_file(source: Source, path: str) -> Source:
    """Return the source with its training samples divided as a table says.

    The table has a column `split` (train, valid or test; an empty cell leaves a sample out) and a column `row` (data
    rows from 0), `file` or both.

    Raises:
        UserError: the table cannot be used, or does not name each sample.
    """
    names, codes = _read(path)
    rows, by_row = row_numbers(source.splits), "row" in names
    files = {split: samples.file_names for split, samples in source.splits.items()}
    if not by_row and any(each is None for each in files.values()):
        raise _problem(path, "it has no column row, and the samples of this data are not files")
    place = {name: line for line, name in enumerate(names["row" if by_row else "file"])}
    if len(place) < len(codes):
        raise _problem(path, f"it names a {'row' if by_row else 'file'} more than once")
    assigned = {}
    for split, samples in source.splits.items():
        own = rows[split].tolist() if by_row else files[split]
        lines = np.array([place.get(name, UNNAMED) for name in own or ()], dtype=np.int64)
        if (lines == UNNAMED).any():
            name = list(own or ())[int((lines == UNNAMED).argmax())]
            count = int((lines == UNNAMED).sum())
            what = f"row {name}" if by_row else str(name)
            raise _problem(path, f"it says no split for {count:,} of {len(samples):,} samples, the first is {what}")
        _compare_files(path, samples, [names["file"][line] for line in lines.tolist()] if "file" in names else None)
        assigned[split] = codes[lines]
    used = sum(map(len, assigned.values()))
    if used < len(codes) and all(samples.row_numbers is None for samples in source.splits.values()):
        raise _problem(path, f"it names {len(codes):,} samples, and the data has {used:,}")
    for split, found in assigned.items():
        if split != "train" and (found != SPLITS.index(split)).any():
            raise _problem(path, f"it moves samples of the data's own {split} split elsewhere")
    present = [SPLITS.index(split) for split in source.splits if split != "train"]
    if np.isin(assigned["train"], present).any():
        raise _problem(path, "it moves training samples to a split that the data has of its own")
    key = SplitKey(path, torch.from_numpy(assigned["train"]))
    return replace(source, division=replace(source.division, split=key))


def _read(path: str) -> tuple[dict[str, Sequence[object]], np.ndarray]:
    """Return the columns `row` (int) and `file` (str) that the table has, and the code of each line's split."""
    lines = stream(path, where=f"{KEY}={path}")
    header = next(lines, (1, []))[1]
    assert not isinstance(header, BadRow)  # `stream` raises it
    if "split" not in header or not {"row", "file"} & set(header):
        advice = suggestions("split", header) if "split" not in header else ""
        raise _problem(path, "expected a column split, and a column row or file", advice)
    columns = {name: header.index(name) for name in COLUMNS if name in header}
    names: dict[str, list[object]] = {name: [] for name in columns if name != "split"}
    codes: list[int] = []
    for line, cells in lines:
        if isinstance(cells, BadRow):
            raise _problem(path, f"row {line}: {cells}")
        texts = {name: cells[place].strip() for name, place in columns.items()}
        code = split_code(texts["split"])
        if code is None:
            raise _problem(path, f"row {line}: {texts['split']!r} is no split; expected {', '.join(SPLITS)} or nothing")
        if "row" in texts and not (texts["row"].isascii() and texts["row"].isdigit() and len(texts["row"]) < 16):
            raise _problem(path, f"row {line}: {texts['row']!r} is not a row; expected a whole number from 0")
        for name, column in names.items():
            column.append(int(texts[name]) if name == "row" else unescaped(texts[name]))
        codes.append(code)
    return dict(names), np.array(codes, dtype=np.int64)


def _compare_files(path: str, samples: Samples, named: list[object] | None) -> None:
    """Check that rows with a file in the table are these files of the data."""
    if named is None or samples.file_names is None:
        return
    for own, name in zip(samples.file_names, named, strict=True):
        if name and own != name:
            raise _problem(path, f"it calls a sample {name} that is {own} in the data")


def _problem(path: str, reason: str, advice: str = "") -> UserError:
    return UserError(Problem(KEY, reason, given=path, advice=advice, check="splits"))
