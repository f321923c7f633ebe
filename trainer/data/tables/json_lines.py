"""JSON Lines: an object per line, whose keys are the columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

from trainer.data.tables.cells import NoCell
from trainer.data.tables.file import TableFile
from trainer.data.tables.rows import BadRow
from trainer.errors import Problem, UserError

LONGEST_LINE = 2**24  # characters


class _Numeral(str):
    """A number as it is spelled in the file."""

    __slots__ = ()


def json_rows(file: TableFile, where: str) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Yield the keys of all objects in the order of their appearance, then (line, cells), empty where a key is absent.

    Numbers are kept as they are spelled, `null` and NaN are empty, `true` and `false` are these words.

    Raises:
        UserError: a line is too long, or no line is an object.
    """
    rows: list[tuple[int, dict[str, str] | BadRow]] = []
    columns: dict[str, None] = {}
    for line, text in _lines(file.text(), where):
        try:
            row = _parse(text)
        except BadRow as error:
            rows.append((line, error))
            continue
        columns |= dict.fromkeys(row)
        rows.append((line, row))
    if not columns:
        reason = 'no line is an object such as {"age": 41, "name": "Ann"}'
        raise UserError(Problem(where, reason, advice="JSON Lines have one object per line."))
    yield 0, list(columns)
    for line, cells in rows:
        yield line, cells if isinstance(cells, BadRow) else [cells.get(name, "") for name in columns]


def _lines(text: IO[str], where: str) -> Iterator[tuple[int, str]]:
    line = 0
    while content := text.readline(LONGEST_LINE + 1):
        line += 1
        if len(content) > LONGEST_LINE:
            raise UserError(Problem(where, f"line {line} has more than {LONGEST_LINE:,} characters"))
        if content.strip():
            yield line, content


def _parse(text: str) -> dict[str, str]:
    try:
        row = json.loads(
            text, parse_float=_Numeral, parse_int=_Numeral, parse_constant=_Numeral, object_pairs_hook=_object
        )
    except BadRow:
        raise
    except (ValueError, RecursionError) as error:
        raise BadRow(f"not a line of JSON ({error}); each line is an object") from error
    if not isinstance(row, dict):
        raise BadRow('not an object such as {"age": 41}')
    return {name.strip(): _cell(value) for name, value in row.items()}


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise BadRow("it names a key more than once")
    return row


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return NoCell("an object" if isinstance(value, dict) else "a list")
    return "" if value == "NaN" and isinstance(value, _Numeral) else str(value)
