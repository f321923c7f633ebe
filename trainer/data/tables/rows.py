"""Rows of a table, encoded for the columns of a trained model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

from trainer.data.tables.cells import NoCell
from trainer.data.tables.dates import parse_date
from trainer.data.tables.numerals import parse_number
from trainer.data.tables.prepare import Column
from trainer.errors import did_you_mean

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
FILLED = ("mean", "median")  # values of data.missing that fill a missing cell


def parse_boolean(text: str) -> float | None:
    """Return 1 for `true` and 0 for `false`, in any case; None for any other text."""
    return {"true": 1.0, "false": 0.0}.get(text.lower())


# By the kind of a column: its parser of texts, and what it accepts.
PARSERS: dict[str, tuple[Callable[[str], float | None], str]] = {
    "number": (parse_number, "a finite number"),
    "date": (parse_date, "a date such as 2024-01-31"),
    "boolean": (parse_boolean, "true or false"),
}


class BadRow(ValueError):
    """A row that cannot be used; the text is a clause that says why, with the column."""


def is_missing(cell: str) -> bool:
    """Return whether a text stands for a missing value."""
    return cell.lower() in MISSING


class Encoder:
    """Encoder of values by column name as raw numbers, in the order of a trained model's K columns.

    An unknown category becomes NaN, which is prepared as all zeros, like a category that no training sample had.

    Args:
        fill: whether missing values become NaN, to be filled as in training; otherwise they are refused.
    """

    def __init__(self, columns: Sequence[Column], *, fill: bool) -> None:
        self.columns, self.fill = columns, fill
        self.codes = [{text: float(code) for code, text in enumerate(column.categories)} for column in columns]

    def check(self, names: Sequence[str]) -> None:
        """Raise BadRow unless every column is among these names."""
        missing = [column.name for column in self.columns if column.name not in names]
        if missing:
            expected = {column.name for column in self.columns}
            near = did_you_mean(missing[0], [name for name in names if name not in expected])
            what = f"column {missing[0]}, which is" if len(missing) == 1 else f"columns {', '.join(missing)}, which are"
            raise BadRow(f"the model needs the {what} missing{f' ({near})' if near else ''}")

    def row(self, values: Mapping[str, Any]) -> list[float]:
        """Return the numbers [K] of one row; further names are ignored.

        Raises:
            BadRow: a column or a value is missing, or a value is not a finite number.
        """
        if any(column.name not in values for column in self.columns):
            self.check(list(values))
        pairs = zip(self.columns, self.codes, strict=True)
        return [self._cell(column, codes, values[column.name]) for column, codes in pairs]

    def _cell(self, column: Column, codes: dict[str, float], value: Any) -> float:
        text = value.strip() if isinstance(value, str) else value
        if isinstance(value, NoCell):
            raise BadRow(f"column {column.name}: {value} is no cell")
        missing = text is None or (is_missing(text) if isinstance(text, str) else text != text)
        if missing and not self.fill:
            raise BadRow(f"column {column.name}: the value is missing, and data.missing filled none in training")
        if missing:
            return math.nan
        if column.categories:
            return codes.get(str(text), math.nan)
        parse, expected = PARSERS[column.kind]
        try:
            if isinstance(text, (bool, date)) and column.kind != "number":
                text = str(text)
            number = parse(text) if isinstance(text, str) else float(text)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is None or not math.isfinite(number):
            raise BadRow(f"column {column.name}: {text!r} is not {expected}")
        return number
