"""CSV files: written whole, or a row at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.files import write_atomically


class Table:
    """A CSV file, begun anew with `rows`, that grows by a row at a time. None is an empty cell."""

    def __init__(self, path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]] = ()) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(path, text.getvalue().encode())
        self._file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 held as long as the run
        self._writer = csv.DictWriter(self._file, columns, lineterminator="\n")

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; it is in the file when this returns."""
        self._writer.writerow(row)

    def close(self) -> None:
        self._file.close()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file as a whole. None is an empty cell.

    Raises:
        RunFailed: the disk is full or refuses.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
