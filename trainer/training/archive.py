"""The zip files that `torch.save` writes: sealed with a digest of the whole file, and read with care."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from trainer.errors import UserError
from trainer.files import open_regular
from trainer.training import inert
from trainer.training.plain_pickles import has_all_tensors

SEAL = b"trainer sha256 "  # then the digest in hexadecimal, all of it as the zip file's comment
SEAL_SIZE = len(SEAL) + 64
COMMENT_SIZE = struct.Struct("<H")  # the last field of a zip file, before the comment
CHUNK = 2**20

# PKWARE, APPNOTE.TXT - .ZIP File Format Specification, sections 4.3.12 and 4.3.14 to 4.3.16.
RECORD = struct.Struct("<4s4B4HL2L5H2L")
END_64 = struct.Struct("<4sQ4s2L4Q")
LOCATOR = struct.Struct("<4sLQL")
END = struct.Struct("<4s4H2LH")
LOCAL = b"PK\x03\x04"  # begins an entry, and so the file
FLAGS = 0x0808  # what torch sets: sizes are repeated after the data, and names are UTF-8
NO_ROOM = 0xFFFF_FFFF  # stands for a size or position that does not fit in 32 bits

# Classes that `weights_only=True` lets a pickle call with a number, which gives memory that is not set.
UNSET = re.compile(rb"ctorch[\w.]*\n(\w*Tensor|(Unt|T)ypedStorage)\n")


class CheckpointError(Exception):
    """A checkpoint file that is damaged or not a checkpoint; the message is a clause that says why."""


def sealed(content: Any) -> memoryview:
    """Return the bytes of a file that `torch.load(weights_only=True)` reads, with a digest of them in its comment.

    The digest shows damage. It is no signature: whoever makes a file can compute it.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    buffer.seek(-COMMENT_SIZE.size, os.SEEK_END)
    buffer.write(COMMENT_SIZE.pack(SEAL_SIZE))
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    buffer.write(SEAL + digest.encode())
    return buffer.getbuffer()


def read_sealed(path: Path) -> Any:
    """Read a file of this program, with tensors on the CPU. No code in it is executed.

    The digest is compared before anything else in the file is looked at.

    Raises:
        CheckpointError: the file is missing, has no digest or another one, or `read` would refuse it.
    """
    with _open(path) as file:
        if not _has_seal(file):
            if zipfile.is_zipfile(file):
                raise CheckpointError("it is not a checkpoint of this program: it does not end with a checksum")
            raise CheckpointError(_reason(file, ""))
        return _read(file)


def read(path: Path) -> Any:
    """Read any file that `torch.save` wrote, with tensors on the CPU. No code in it is executed.

    torch.load checks no checksums, so that a flipped bit would be a silently wrong weight. Therefore the digest of
    a file of this program is checked first, and the CRCs of any other zip file. Files from before torch 1.6 are
    plain pickles without a checksum.

    Raises:
        CheckpointError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    with _open(path) as file:
        return _read(file)


def read_foreign(path: Path) -> Any:
    """Read a file like `read`; objects of other classes, such as Lightning's, become dictionaries instead of an error.

    Raises:
        CheckpointError: as `read` does; a file from before torch 1.6 may hold only tensors and plain values.
    """
    with _open(path) as file:
        try:
            return _read(file)
        except CheckpointError as damage:
            if damage.__cause__ is None:  # a checksum is wrong, or the directory
                raise
            try:
                return inert.load(file)
            except Exception:
                raise damage from damage.__cause__


def _open(path: Path) -> IO[bytes]:
    try:
        return open_regular(path)
    except UserError as error:
        raise CheckpointError(f"it is refused: {error.problems[0].reason}") from error


def _read(file: IO[bytes]) -> Any:
    try:
        _check(file)
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about unknown pickle protocols; such files are rejected below
            return torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # damaged files can raise any exception
        raise CheckpointError(_reason(file, str(error))) from error


def _check(file: IO[bytes]) -> None:
    """Check a file for damage, and for what would make torch return memory that is not set.

    Raises:
        CheckpointError: a checksum is wrong, or it is not a file as torch writes it.
    """
    if has_seal := _has_seal(file):
        _check_digest(file)
    file.seek(0)
    if file.read(len(LOCAL)) == LOCAL:  # as torch tells zip files from plain pickles
        with zipfile.ZipFile(file) as archive:
            _check_directory(archive, file)
            if not has_seal and (bad := archive.testzip()) is not None:
                raise CheckpointError(f"the checksum of {bad} is wrong")
            pickle = b"".join(archive.read(name) for name in archive.namelist() if name.endswith(".pkl"))
    else:
        file.seek(0)
        pickle = file.read()
        if not has_all_tensors(file):
            raise CheckpointError("it names tensors that it does not hold")
    if UNSET.search(pickle):
        raise CheckpointError("it makes tensors without values, which no state dict does")


def _has_seal(file: IO[bytes]) -> bool:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - SEAL_SIZE, 0))
    return file.read(len(SEAL)) == SEAL


def _check_digest(file: IO[bytes]) -> None:
    left = file.seek(0, os.SEEK_END) - SEAL_SIZE
    file.seek(0)
    digest = hashlib.sha256()
    while left and (chunk := file.read(min(left, CHUNK))):
        digest.update(chunk)
        left -= len(chunk)
    if file.read() != SEAL + digest.hexdigest().encode():
        raise CheckpointError("its checksum is wrong: it is not what was written")


def _check_directory(archive: zipfile.ZipFile, file: IO[bytes]) -> None:
    """Check that the directory of a zip file is, byte for byte, what torch writes for entries of these sizes.

    Other bytes may mean something to torch's reader that they do not mean to Python's: for one it takes an entry with
    the attribute 0x10 for a folder and returns memory that is not set.

    Raises:
        CheckpointError: it is not.
    """
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError("it is compressed, which no checkpoint of torch is")
    if sum(entry.file_size for entry in entries) > archive.start_dir:
        raise CheckpointError("its entries are larger than the file, which no checkpoint's are")
    ends = [entry.header_offset + 30 + len(entry.orig_filename) + entry.file_size for entry in entries]
    starts = [*(entry.header_offset for entry in entries), archive.start_dir]
    names = {entry.orig_filename.lower() for entry in entries}
    roots = {entry.orig_filename.partition("/")[0] for entry in entries}
    file.seek(archive.start_dir)
    directory = file.read()
    records = b"".join(map(_record, entries))
    ending = directory[len(records) :]
    if not (
        directory.startswith(records)
        and ending in _endings(len(entries), len(records), archive.start_dir, ending, archive.comment)
        and archive.comment[: len(SEAL)] in (b"", SEAL)
        and starts[0] == 0
        and all(end <= start for end, start in zip(ends, starts[1:], strict=True))
        and len(names) == len(entries)
        and len(roots) == 1
        and all(name.isprintable() and not name.endswith("/") for name in names)
    ):
        raise CheckpointError("its directory is not what torch writes")


def _record(entry: zipfile.ZipInfo) -> bytes:
    """Return the bytes of an entry in the directory as torch writes them. Versions and times mean nothing."""
    year, month, day, hour, minute, second = entry.date_time
    date, time = (year - 1980) << 9 | month << 5 | day, hour << 11 | minute << 5 | second // 2
    versions = (entry.create_version, entry.create_system, entry.extract_version, entry.reserved)
    flags = entry.flag_bits & FLAGS
    name = entry.orig_filename.encode("utf-8" if flags & 0x800 else "cp437")
    size, offset = entry.file_size, entry.header_offset
    long = [size, size] * (size >= NO_ROOM) + [offset] * (offset >= NO_ROOM)
    extra = struct.pack(f"<2H{len(long)}Q", 1, 8 * len(long), *long) if long else b""
    size, offset = min(size, NO_ROOM), min(offset, NO_ROOM)
    lengths = (len(name), len(extra), 0)
    fixed = (b"PK\x01\x02", *versions, flags, 0, time, date, entry.CRC, size, size, *lengths, 0, 0, 0, offset)
    return RECORD.pack(*fixed) + name + extra


def _endings(count: int, size: int, start: int, ending: bytes, comment: bytes) -> tuple[bytes, bytes]:
    """Return the two endings of a zip file that torch may have written: with 64-bit positions, and without them."""
    versions = ending[12:16]
    long = END_64.pack(b"PK\x06\x06", 44, versions.ljust(4), 0, 0, count, count, size, start)
    locator = LOCATOR.pack(b"PK\x06\x07", 0, start + size, 1)
    counts = (min(count, 0xFFFF), min(count, 0xFFFF))
    short = END.pack(b"PK\x05\x06", 0, 0, *counts, min(size, NO_ROOM), min(start, NO_ROOM), len(comment)) + comment
    return long + locator + short, short


def _reason(file: IO[bytes], message: str) -> str:
    """Return why torch could not read a file. Its own message advises to load without weights_only, which is unsafe."""
    match = re.search(r"GLOBAL ([\w.]+)", message)
    if match or "TorchScript" in message or "unsupported class" in message.lower():
        return f"it holds more than tensors and plain values{f' ({match[1]})' if match else ''}, which is never loaded"
    file.seek(0)
    zipped = file.read(2) == b"PK"
    with contextlib.suppress(Exception), zipfile.ZipFile(file) as archive:  # only refines the reason given below
        zipped = any(name.endswith("/data.pkl") for name in archive.namelist())
    return "it is truncated, or not what was written" if zipped or "EOF" in message else "it is not a checkpoint"
