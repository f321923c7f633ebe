"""Rows of a table in any format, one at a time, as text. Standard input and compressed files are read like others."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from trainer.data.tables.file import TableFile, open_table
from trainer.data.tables.json_lines import json_rows
from trainer.data.tables.parquet import parquet_rows
from trainer.data.tables.rows import BadRow
from trainer.data.tables.workbook import workbook_rows
from trainer.errors import Problem, UserError

Row = tuple[int, list[str] | BadRow]


def stream(path: str, separator: str | None = None, where: str = "") -> Iterator[Row]:
    """Yield (line, cells) for each row of a table, header first; a row that cannot be used is a BadRow.

    Empty lines are skipped. `line` is the number that an editor or a spreadsheet shows, of the first line of a row
    whose cells hold line breaks; in a Parquet file it is the number of the row, from 0.

    Args:
        path: a delimited file, Parquet, Excel or JSON Lines, or `-` for standard input.
        separator: of a delimited file; default: the most frequent one in the header.
        where: key and path for messages; default: the path.

    Raises:
        UserError: no such file, no table, or a header that names a column twice.
    """
    where = where or path
    with open_table(path, where) as file:
        header: list[str] = []
        for line, row in _rows(file, separator, where):
            if not header:
                if isinstance(row, BadRow):
                    raise UserError(Problem(where, str(row)))
                header = row = [name.strip() for name in row]
                _check_header(header, where)
            elif not isinstance(row, BadRow) and len(row) != len(header):
                row = BadRow(f"{len(row)} cells, where the header has {len(header)}")
            yield line, row


def _rows(file: TableFile, separator: str | None, where: str) -> Iterable[Row]:
    if file.kind == "parquet":
        return parquet_rows(file.binary, where)
    if file.kind == "excel":
        return workbook_rows(file.binary, where)
    if file.kind == "json":
        return json_rows(file, where)
    return _delimited(file, separator, where)


def _check_header(header: list[str], where: str) -> None:
    if repeated := [name for name, count in Counter(header).items() if count > 1]:
        named = ", ".join(name or "'' (no name)" for name in repeated)
        advice = "" if any(repeated) else "A title above the table, or columns without a name, must go."
        raise UserError(Problem(where, f"the header names {named} more than once", advice=advice))


def _delimited(file: TableFile, separator: str | None, where: str) -> Iterator[Row]:
    text = file.text()
    first = text.readline()
    try:
        yield from _numbered(csv.reader(chain([first], text), delimiter=separator or _separator(first), strict=True))
    except TypeError as error:  # a separator that is not one character
        raise UserError(Problem(where, f"not a delimited file: {error}")) from error


def _numbered(reader: Any) -> Iterator[Row]:
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
