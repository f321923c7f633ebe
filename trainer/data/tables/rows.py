"""Rows of texts or values to the numbers that a trained table's columns stand for, one row at a time."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.data.tables.prepare import Column
from trainer.errors import Problem, UserError, did_you_mean

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
FILLED = ("mean", "median")  # ways of data.missing that fill a value; the others leave the row out or refuse it


class BadRow(ValueError):
    """A row that cannot be used; the text says which column and why."""


def is_missing(cell: str) -> bool:
    """Whether a text stands for no value."""
    return cell.lower() in MISSING


def stream(path: str, separator: str | None = None, where: str = "") -> Iterator[tuple[int, list[str] | BadRow]]:
    """(line, cells) of a delimited file, the header first, or (line, why not) of a row that cannot be used; empty lines
    are left out, nothing is kept.

    A line is counted as an editor shows it: the first of a row whose cells hold line breaks.

    Raises:
        UserError: no such file, no delimited text, a header that names a column twice.
    """
    where = where or path
    if not Path(path).is_file():
        raise UserError(Problem(where, "no such file"))
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=separator or _separator(first), strict=True)
            header: list[str] = []
            for line, row in _numbered(reader):
                if not header:
                    if isinstance(row, BadRow):
                        raise UserError(Problem(where, str(row)))
                    header = row = [name.strip() for name in row]
                    doubled = [name for name, count in Counter(header).items() if count > 1]
                    if doubled:
                        raise UserError(Problem(where, f"the header names {', '.join(doubled)} more than once"))
                elif not isinstance(row, BadRow) and len(row) != len(header):
                    row = BadRow(f"{len(row)} cells, where the header has {len(header)}")
                yield line, row
    except UnicodeDecodeError as error:
        raise UserError(Problem(where, f"not UTF-8 text ({error})", advice="Convert it first.")) from error
    except OSError as error:
        raise UserError(Problem(where, f"cannot be read ({error.strerror})")) from error
    except TypeError as error:  # a separator that is none
        raise UserError(Problem(where, f"not a delimited file: {error}")) from error


def _numbered(reader: Any) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Each row with the line that it begins in."""
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, BadRow(f"not a row of a delimited file: {error}")
            continue
        if row:
            yield line, row


def _separator(first: str) -> str:
    """The separator that stands most often in the header outside quotes."""
    outside = "".join(first.split('"')[::2])
    return max(",;\t|", key=outside.count)


class Encoder:
    """Values by column name to raw numbers [K], in the order of a trained table's columns.

    A text that a column of categories does not know becomes NaN, which is encoded as all zeros, like a category that
    the training part did not have.

    Args:
        fill: whether missing values are filled as they were in training; they are refused otherwise.
    """

    def __init__(self, columns: Sequence[Column], *, fill: bool) -> None:
        self.columns, self.fill = columns, fill
        self.codes = [{text: float(code) for code, text in enumerate(column.categories)} for column in columns]

    def check(self, names: Sequence[str]) -> None:
        """
        Raises:
            BadRow: a column is not among these names.
        """
        missing = [column.name for column in self.columns if column.name not in names]
        if missing:
            own = {column.name for column in self.columns}
            near = did_you_mean(missing[0], [name for name in names if name not in own])
            what = f"column {missing[0]}" if len(missing) == 1 else f"columns {', '.join(missing)}"
            there = "is not there" if len(missing) == 1 else "are not there"
            raise BadRow(f"the model wants the {what}, which {there}{f' ({near})' if near else ''}")

    def row(self, values: Mapping[str, Any]) -> list[float]:
        """The numbers of one row; names that the model does not know are left alone.

        Raises:
            BadRow: a column is not there, a value missing, or no finite number.
        """
        if any(column.name not in values for column in self.columns):
            self.check(list(values))
        pairs = zip(self.columns, self.codes, strict=True)
        return [self._cell(column, codes, values[column.name]) for column, codes in pairs]

    def _cell(self, column: Column, codes: dict[str, float], value: Any) -> float:
        text = value.strip() if isinstance(value, str) else value
        missing = text is None or (is_missing(text) if isinstance(text, str) else text != text)
        if missing and not self.fill:
            raise BadRow(f"column {column.name}: no value, and the run was not told how to fill one (data.missing)")
        if missing:
            return math.nan
        if column.categories:
            return codes.get(str(text), math.nan)
        try:
            number = float(text)
        except (TypeError, ValueError, OverflowError):
            number = math.inf
        if not math.isfinite(number):
            raise BadRow(f"column {column.name}: {text!r} is no finite number")
        return number
