"""One array in a file: its header read and checked, its numbers read or mapped. No pickle is ever loaded."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, Protocol

import numpy as np
import torch

from trainer import device
from trainer.errors import Problem, UserError
from trainer.files import open_regular

CHUNK_BYTES = 2**24
MEMORY_SHARE = 0.5  # of the free memory, for one array
KINDS = "biufUS"  # numpy's kinds of types: booleans, integers, floats and texts
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
Damage = (ValueError, EOFError, OSError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError)


class NamedArray(Protocol):
    """An array with a name for messages, in memory or in a file."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...
    def __len__(self) -> int: ...
    def read(self) -> np.ndarray: ...


@dataclass(frozen=True)
class StoredArray:
    """An array in a file; its size has been compared with that of the file.

    Attributes:
        name: in a file of several arrays, or the name of the file.
        path: the file.
        dtype: never of objects.
        fortran: whether the first index varies fastest.
        offset: of its first number in the file; None if it is compressed.
        member: of a zip file that holds it; None if the file is no zip file.
    """

    name: str
    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    offset: int | None
    member: str | None = None

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def read(self) -> np.ndarray:
        """Read the array into memory.

        Raises:
            UserError: the file is cut short or damaged, has changed since its header was read, or does not fit.
        """
        if self.num_bytes > MEMORY_SHARE * device.free_memory(torch.device("cpu")):
            reason = f"{shape_of(self)} need {self.num_bytes:,} bytes, more than half of the free memory"
            raise UserError(Problem(self.name, reason, source=str(self.path)))
        with open_regular(self.path, follow=True) as file:
            try:
                if self.member is None:
                    file.seek(self.offset or 0)
                    return self._fill(file)
                with zipfile.ZipFile(file) as archive, archive.open(self.member) as member:
                    read_header(member)
                    array = self._fill(member)
                    member.read(1)  # which compares the checksum
                    return array
            except Damage as error:
                raise damaged(self.path, self.name, error) from error

    def _fill(self, stream: IO[bytes]) -> np.ndarray:
        array = np.empty(math.prod(self.shape), self.dtype)
        rest = array.view(np.uint8).data
        while rest:
            count = stream.readinto(rest[:CHUNK_BYTES])  # type: ignore[attr-defined]
            if not count:
                raise EOFError("it is cut short")
            rest = rest[count:]
        return array.reshape(self.shape, order="F" if self.fortran else "C")

    def map(self, file: IO[bytes]) -> np.ndarray:
        """Map the array, which is not compressed, from its open file."""
        order: Any = "F" if self.fortran else "C"
        return np.memmap(file, self.dtype, "r", self.offset or 0, self.shape, order)


def from_header(name: str, path: Path, stream: IO[bytes], size: int, member: str | None = None) -> StoredArray:
    """Return the array whose .npy header is next in a stream.

    Args:
        size: bytes of the stream, header included.

    Raises:
        UserError: it is not an array of numbers or texts, or larger than the stream.
    """
    before = stream.tell()
    try:
        shape, fortran, dtype = read_header(stream)
    except Damage as error:
        raise damaged(path, name, error) from error
    header = stream.tell() - before
    offset = stream.tell() if member is None else None
    array = StoredArray(name, path, shape, dtype, fortran, offset, member)
    check_type(array)
    if array.num_bytes > size - header:
        reason = f"{shape_of(array)} need {array.num_bytes:,} bytes, and the file has {max(size - header, 0):,}"
        raise damaged(path, name, reason)
    return array


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of a .npy file: shape, whether the first index varies fastest, and type.

    Raises:
        ValueError: it is not one.
    """
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"version {version[0]}.{version[1]} of the format is for arrays with named fields")
    try:
        shape, fortran, dtype = HEADERS[version](stream)
    except (SyntaxError, TokenError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError("its header is not that of an array") from error
    if any(length < 0 for length in shape):
        raise ValueError(f"its shape is {list(shape)}")
    return shape, fortran, dtype


def check_type(array: StoredArray) -> None:
    """Refuse objects, named fields and other types that are neither numbers nor texts.

    Raises:
        UserError: the type is none of `KINDS`.
    """
    dtype = array.dtype
    if dtype.hasobject:
        reason = "it holds Python objects, which only code in the file could restore"
        advice = "Save it as numbers or texts, such as np.save(path, array.astype(float))."
        raise UserError(Problem(array.name, reason, advice=advice, source=str(array.path)))
    if dtype.kind not in KINDS or not dtype.itemsize:
        reason = f"its type is {dtype}; expected numbers, booleans or texts"
        raise UserError(Problem(array.name, reason, source=str(array.path)))


def shape_of(array: NamedArray) -> str:
    """Return shape and type for messages: `uint8 [60000, 28, 28]`."""
    return f"{type_of(array.dtype)} {list(array.shape)}"


def type_of(dtype: np.dtype) -> str:
    """Return the name of a type: `uint8`, `text`."""
    return "text" if dtype.kind in "US" else dtype.name


def damaged(path: Path, name: str, reason: Exception | str) -> UserError:
    """Return the error of an array that cannot be read."""
    if isinstance(reason, OSError):
        reason = reason.strerror or str(reason)
    text = " ".join(str(reason).split()) or "it is cut short"
    return UserError(
        Problem(name if name != path.name else "", f"not a readable array: {text.rstrip('.')}", source=str(path))
    )


class OpenFile:
    """A file that is mapped, and what it was when the run began."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, open_regular(path, follow=True)
        self.state = self._now()

    def _now(self) -> tuple[int, int]:
        status = os.fstat(self.file.fileno())
        return status.st_size, status.st_mtime_ns

    def check(self) -> None:
        """Refuse a file that was written to since it was opened.

        Raises:
            UserError: size or time have changed.
        """
        if self._now() != self.state:
            advice = "Restore it and resume the run, or start a new one."
            raise UserError(Problem(str(self.path), "the file has changed since the run began", advice=advice))
