"""CSV files, written as a whole or row by row. Text that a spreadsheet would run as a formula is escaped."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from trainer.data.tables.formulas import escaped
from trainer.errors import RunFailed
from trainer.files import write_atomically
from trainer.records.contents import append


class Table:
    """A CSV file that starts with `rows` and grows row by row. None is an empty cell."""

    def __init__(self, path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]] = ()) -> None:
        write_csv(path, columns, ([row.get(name) for name in columns] for row in rows))
        self._file = TextIOWrapper(append(path), "utf-8", newline="", line_buffering=True)
        self._writer = csv.DictWriter(self._file, columns, lineterminator="\n")

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row and flush the file.

        Raises:
            RunFailed: the file cannot be written, for example on a full disk.
        """
        with self._reporting():
            self._writer.writerow(dict(zip(row, escaped(row.values()), strict=True)))

    def sync(self) -> None:
        """Flush the rows to the disk.

        Raises:
            RunFailed: the file cannot be written.
        """
        with self._reporting():
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a row that could not be written, which was reported before
            self._file.close()

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunFailed(f"{self._file.name}: could not be written ({error.strerror}).") from error


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file atomically. None is an empty cell.

    Raises:
        RunFailed: the file could not be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(escaped(header))
    writer.writerows(map(escaped, rows))
    write_atomically(path, text.getvalue().encode())
