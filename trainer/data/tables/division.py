"""Columns of a table that say how its rows are divided: a group, an order, or the split itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch

from trainer.data.source import Division, SplitKey
from trainer.data.split import SPLITS
from trainer.data.split_file import split_code
from trainer.data.tables.columns import Cells
from trainer.data.tables.dates import parse_date
from trainer.data.tables.numerals import parse_number
from trainer.data.tables.rows import is_missing
from trainer.errors import Problem, UserError, show

CHECK = "splits"


@dataclass(frozen=True)
class DivisionColumns:
    """The names of the columns that divide a table's rows; None for those that it does not have."""

    group: str | None = None
    order: str | None = None
    split: str | None = None

    @property
    def by_key(self) -> dict[str, str]:
        """The names that are set, by configuration key: group, order and split."""
        return {key: name for key, name in vars(self).items() if name is not None}

    def among(self, header: Collection[str]) -> DivisionColumns:
        """Return those that a table with this header has."""
        return DivisionColumns(**{key: name for key, name in self.by_key.items() if name in header})


def read_division(cells: Callable[[str], Cells], columns: DivisionColumns) -> Division:
    """Return how the rows of a table are divided.

    Args:
        cells: returns the column of a name.
        columns: names of columns that the table has.

    Raises:
        UserError: a cell is no group, number, date or split.
    """
    keys = {"group": _group, "order": _order, "split": _split}
    return Division(**{key: keys[key](cells(name)) for key, name in columns.by_key.items()})


def _group(cells: Cells) -> SplitKey:
    if wrong := [line for text, line in zip(cells.texts, cells.lines, strict=True) if is_missing(text)]:
        reason = f"{len(wrong):,} rows have no {cells.name}, the first is row {wrong[0]}"
        command = "data.missing=drop"
        raise _problem(
            "group", cells, reason, "A row without a group cannot be kept with its own: leave it out", command
        )
    texts = sorted(set(cells.texts))
    code = {text: i for i, text in enumerate(texts)}
    return SplitKey(cells.name, torch.tensor([code[text] for text in cells.texts]), tuple(texts))


def _order(cells: Cells) -> SplitKey:
    missing = sum(map(is_missing, cells.texts))
    if missing:
        raise _problem("order", cells, f"{missing:,} rows have no {cells.name}", "Leave them out", "data.missing=drop")
    dates = sum(parse_date(text) is not None for text in cells.texts) > len(cells.texts) / 2
    values = [parse_date(text) if dates else parse_number(text) for text in cells.texts]
    numbers = [math.nan if value is None else value for value in values]
    for text, line, number in zip(cells.texts, cells.lines, numbers, strict=True):
        if not math.isfinite(number):
            expected = "dates such as 2024-01-31" if dates else "numbers, or dates such as 2024-01-31"
            raise _problem("order", cells, f"row {line} is {text!r}; expected {expected}")
    return SplitKey(cells.name, torch.tensor(numbers, dtype=torch.float64), dates=dates)


def _split(cells: Cells) -> SplitKey:
    codes = []
    for text, line in zip(cells.texts, cells.lines, strict=True):
        code = split_code("" if is_missing(text) else text)
        if code is None:
            raise _problem("split", cells, f"row {line} is {text!r}; expected {', '.join(SPLITS)} or nothing")
        codes.append(code)
    return SplitKey(cells.name, torch.tensor(codes))


def _problem(key: str, cells: Cells, reason: str, advice: str = "", command: str = "") -> UserError:
    given = cells.name
    return UserError(
        Problem(f"data.{key}", reason, given=given, advice=advice, command=command, source=cells.path, check=CHECK)
    )


def division_columns(group: Any, order: Any, split: Any) -> DivisionColumns:
    """Return the names of the columns that divide the rows.

    Raises:
        UserError: one of them is not a name.
    """
    names = {"group": group, "order": order, "split": split}
    return DivisionColumns(**{key: None if name is None else column_name(key, name) for key, name in names.items()})


def column_name(key: str, name: Any) -> str:
    """Return the name of a column, `data.<key>`, as text: Hydra and YAML read the name 2024 as a number.

    Raises:
        UserError: it is not a name.
    """
    if isinstance(name, (dict, list, tuple)):
        raise UserError(Problem(f"data.{key}", "expected the name of one column", given=show(name)))
    return show(name)
