"""The file of a table, or standard input: opened, decompressed, and recognised by its first bytes."""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from trainer.errors import Problem, UserError

STANDARD_INPUT = "-"
MOST_INPUT = 2**31  # bytes of standard input, which are kept in memory
# What is decompressed may be this many times as large as the file, and any file may expand to this many bytes.
EXPANSION, FREE_BYTES = 200, 2**26
HEAD = 4096  # bytes by which a file is recognised

GZIP, PARQUET, ZIP = b"\x1f\x8b", b"PAR1", b"PK\x03\x04"
SUFFIXES = {".parquet": "parquet", ".pq": "parquet", ".xlsx": "excel", ".xlsm": "excel"}
NAMES = {"parquet": "a Parquet file", "excel": "an Excel workbook (.xlsx)"}
JSON_LINES = re.compile(rb'\s*\{\s*("|\})')
# First bytes of files that are no table for this program, what they are, and what to do.
OTHERS = (
    (rb"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)", "Save it as .xlsx or .csv."),
    (rb"SQLite format 3\0", "an SQLite database", "Export the table as CSV."),
    (rb"ARROW1|ORC|Obj\x01", "a Feather, ORC or Avro file", "Write the table as Parquet or CSV."),
    (rb"\x89HDF", "an HDF5 file", "Write the table as Parquet or CSV."),
    (rb"\x93NUMPY", "a NumPy array", "Arrays are read by data=arrays."),
    (rb"\x80[\x02-\x05]", "a pickle, which is not read, because it can run code", "Write the table as Parquet or CSV."),
    (rb"BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf", "compressed", "Unpack it, or compress it with gzip."),
    (rb"%PDF", "a PDF", "Export the table as CSV."),
    (rb"\xff\xfe|\xfe\xff", "text in UTF-16", "Convert it to UTF-8."),
    (rb"\s*<(!doctype|html|\?xml)", "a web page, not a table", "Download the file behind the link, not the page."),
    (rb"\s*\[\s*[{\[]", "a JSON list", "Write one object per line (JSON Lines): jq -c '.[]'"),
)


@dataclass(frozen=True)
class TableFile:
    """An open table.

    Attributes:
        kind: `csv`, `json` (JSON Lines), `parquet` or `excel`.
        binary: its bytes; can be read from any place if it is Parquet or Excel.
    """

    kind: str
    binary: IO[bytes]

    def text(self) -> IO[str]:
        """Return the content as UTF-8 text, line breaks as they are."""
        return io.TextIOWrapper(self.binary, "utf-8-sig", newline="")


@contextlib.contextmanager
def open_table(path: str, where: str) -> Iterator[TableFile]:
    """Open a table; `-` is standard input, which a process reads once and keeps.

    Args:
        path: the file.
        where: key and path for messages.

    Raises:
        UserError: no such file, it cannot be read, or it is no table.
    """
    if path != STANDARD_INPUT and not Path(path).is_file():
        raise UserError(Problem(where, "no such file"))
    try:
        with _open(path, where) as file:
            head = _peek(file)
            if not head.startswith(GZIP):
                yield TableFile(_kind(file, head, path, where), file)
                return
            path = path.removesuffix(".gz")
            with io.BufferedReader(_Decompressed(file, where)) as inner:
                kind = _kind(inner, inner.peek(HEAD)[:HEAD], path, where)
                if kind in NAMES:
                    raise UserError(Problem(where, f"{NAMES[kind]} inside gzip", advice="Unpack it: gunzip"))
                yield TableFile(kind, inner)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(Problem(where, f"the gzip file is damaged ({error})")) from error
    except UnicodeDecodeError as error:
        raise UserError(Problem(where, f"not UTF-8 text ({error})", advice="Convert it first.")) from error
    except OSError as error:
        raise UserError(Problem(where, f"cannot be read ({error.strerror or error})")) from error


def _open(path: str, where: str) -> IO[bytes]:
    return io.BytesIO(standard_input(where)) if path == STANDARD_INPUT else open(path, "rb")


@functools.cache
def standard_input(where: str) -> bytes:
    """Return what came on standard input.

    Raises:
        UserError: it is a terminal, empty or too large.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError(Problem(where, "no table comes on standard input", advice="Send one: < table.csv"))
    content = sys.stdin.buffer.read(MOST_INPUT + 1)
    if len(content) > MOST_INPUT:
        raise UserError(Problem(where, f"more than {MOST_INPUT:,} bytes on standard input", advice="Name a file."))
    if not content:
        raise UserError(Problem(where, "standard input is empty", advice="Send a table: < table.csv"))
    return content


def _peek(file: IO[bytes]) -> bytes:
    head = file.read(HEAD)
    file.seek(0)
    return head


def _kind(file: IO[bytes], head: bytes, path: str, where: str) -> str:
    """Return what a file is.

    Raises:
        UserError: it is no table, or not what its name says.
    """
    for pattern, what, advice in OTHERS:
        if re.match(pattern, head, re.IGNORECASE):
            raise UserError(Problem(where, f"it is {what}", advice=advice))
    if head.startswith(PARQUET):
        return "parquet"
    if head.startswith(ZIP):
        _check_workbook(file, where)
        return "excel"
    suffix = Path(path).suffix.lower()
    if suffix == ".gz":
        raise UserError(Problem(where, "it is not compressed by gzip, as its name says"))
    if suffix in SUFFIXES:
        raise UserError(Problem(where, f"it is not {NAMES[SUFFIXES[suffix]]}, as its name says"))
    return "json" if JSON_LINES.match(head) else "csv"


def _check_workbook(file: IO[bytes], where: str) -> None:
    """Check that a zip file is an Excel workbook that does not expand to more than memory may hold."""
    if not file.seekable():
        return
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UserError(Problem(where, f"the workbook or zip file is damaged ({error})")) from error
    names = {member.filename for member in members}
    if "content.xml" in names:
        raise UserError(Problem(where, "it is an OpenDocument file", advice="Save it as .xlsx or .csv."))
    if "xl/workbook.xml" not in names:
        raise UserError(Problem(where, "it is a zip file", advice="Unpack it, and name the table in it."))
    size, packed = (sum(getattr(m, name) for m in members) for name in ("file_size", "compress_size"))
    if size > max(FREE_BYTES, EXPANSION * packed):
        raise UserError(Problem(where, f"it would expand to {size:,} bytes, {size // max(packed, 1):,} times its size"))
    file.seek(0)


class _Decompressed(io.RawIOBase):
    """The content of a gzip file, which must not expand by more than EXPANSION."""

    def __init__(self, file: IO[bytes], where: str) -> None:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        self._file, self._where = gzip.GzipFile(fileobj=file), where
        self._left = max(FREE_BYTES, EXPANSION * size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self._file.read1(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            raise UserError(Problem(self._where, f"it expands to more than {EXPANSION} times its size"))
        buffer[: len(content)] = content
        return len(content)
