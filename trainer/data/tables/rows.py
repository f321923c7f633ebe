"""Rows of a table: read one at a time from a delimited file, and encoded for the columns of a trained model."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.data.tables.numerals import parse_number
from trainer.data.tables.prepare import Column
from trainer.errors import Problem, UserError, did_you_mean

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
FILLED = ("mean", "median")  # values of data.missing that fill a missing cell


class BadRow(ValueError):
    """A row that cannot be used; the text is a clause that says why, with the column."""


def is_missing(cell: str) -> bool:
    """Return whether a text stands for a missing value."""
    return cell.lower() in MISSING


def stream(path: str, separator: str | None = None, where: str = "") -> Iterator[tuple[int, list[str] | BadRow]]:
    """Yield (line, cells) for each row of a delimited file, header first; a row that cannot be used is a BadRow.

    Empty lines are skipped. `line` is the number that an editor shows, of the first line of a row whose cells hold line
    breaks.

    Args:
        separator: default: the most frequent one in the header.
        where: key and path for messages; default: the path.

    Raises:
        UserError: no such file, not delimited text, or a header that names a column twice.
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
                    repeated = [name for name, count in Counter(header).items() if count > 1]
                    if repeated:
                        raise UserError(Problem(where, f"the header names {', '.join(repeated)} more than once"))
                elif not isinstance(row, BadRow) and len(row) != len(header):
                    row = BadRow(f"{len(row)} cells, where the header has {len(header)}")
                yield line, row
    except UnicodeDecodeError as error:
        raise UserError(Problem(where, f"not UTF-8 text ({error})", advice="Convert it first.")) from error
    except OSError as error:
        raise UserError(Problem(where, f"cannot be read ({error.strerror})")) from error
    except TypeError as error:  # a separator that is not one character
        raise UserError(Problem(where, f"not a delimited file: {error}")) from error


def _numbered(reader: Any) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Yield each row with the line that it begins in."""
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
    """Return the separator that is most frequent in the header outside quotes."""
    outside = "".join(first.split('"')[::2])
    return max(",;\t|", key=outside.count)


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
        missing = text is None or (is_missing(text) if isinstance(text, str) else text != text)
        if missing and not self.fill:
            raise BadRow(f"column {column.name}: the value is missing, and data.missing filled none in training")
        if missing:
            return math.nan
        if column.categories:
            return codes.get(str(text), math.nan)
        try:
            number = parse_number(text) if isinstance(text, str) else float(text)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is None or not math.isfinite(number):
            raise BadRow(f"column {column.name}: {text!r} is not a finite number")
        return number
