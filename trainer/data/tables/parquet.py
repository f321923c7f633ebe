"""Parquet files, read by pyarrow (the extra `tables`). The types of the columns are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import IO, Any

from trainer.data.tables.cells import NoCell, Text
from trainer.data.tables.rows import BadRow
from trainer.errors import Problem, UserError

MOST_CELLS = 2**28
MOST_CHARACTERS = 2**31
ROWS = 4096  # that are decoded at a time


def parquet_rows(file: IO[bytes], where: str) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Yield the names of the columns, then (row from 0, cells).

    Raises:
        UserError: pyarrow is not installed, or the file is damaged or too large.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        reason = f"{error.name} is not installed, which reads Parquet"
        raise UserError(Problem(where, reason, command="pip install 'trainer-cli[tables]'")) from error
    try:
        table = parquet.ParquetFile(file)
        cells = table.metadata.num_rows * len(table.schema_arrow)
        if cells > MOST_CELLS:
            raise UserError(Problem(where, f"{cells:,} cells are more than the {MOST_CELLS:,} accepted"))
        yield 0, list(table.schema_arrow.names)
        number = characters = 0
        for batch in table.iter_batches(ROWS):
            columns = [_column(column) for column in batch.columns]
            characters += sum(map(len, (cell for column in columns for cell in column)))
            if characters > MOST_CHARACTERS:
                raise UserError(Problem(where, f"it has more than the {MOST_CHARACTERS:,} characters accepted"))
            for row in zip(*columns, strict=True):
                yield number, list(row)
                number += 1
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        reason = f"the Parquet file is damaged or of an unknown kind ({str(error).splitlines()[0]})"
        raise UserError(Problem(where, reason)) from error


def _column(column: Any) -> list[str]:
    """Return the cells of a pyarrow.Array as text."""
    import pyarrow as arrow
    from pyarrow import types

    kind = column.type
    category = types.is_dictionary(kind)
    if category:
        column = column.dictionary_decode()
        kind = column.type
    if types.is_timestamp(kind):  # nanoseconds would need pandas
        column = column.cast(arrow.timestamp("us", kind.tz), safe=False)
    text = _text_of(kind)
    if text is None:
        return ["" if value is None else NoCell(f"a value of type {kind}") for value in column.to_pylist()]
    texts = ["" if value is None else text(value) for value in column.to_pylist()]
    return [Text(cell) if cell else cell for cell in texts] if category else texts


def _text_of(kind: Any) -> Callable[[Any], str] | None:
    """Return the function that spells values of an Arrow type; None for a type that is no cell."""
    from pyarrow import types

    if types.is_boolean(kind):
        return lambda value: "true" if value else "false"
    if types.is_floating(kind):
        return lambda value: "" if math.isnan(value) else repr(value)
    if types.is_integer(kind) or types.is_decimal(kind) or types.is_null(kind):
        return str
    if types.is_date(kind):
        return lambda value: value.isoformat()
    if types.is_timestamp(kind):
        return lambda value: value.isoformat(" ")
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return lambda value: Text(value.strip())
    return None
