"""Files and folders that hold arrays: .npz, .npy, .safetensors, and folders of .npy files."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from trainer.data.arrays.stored import Damage, StoredArray, check_type, damaged, from_header, shape_of
from trainer.errors import Problem, UserError
from trainer.files import open_regular

SUFFIXES = (".npz", ".npy", ".safetensors")
MOST_ARRAYS = 1000
MOST_HEADER = 2**22  # bytes of the header of a safetensors file
LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip member: signature, ..., lengths of name and extra field
SAFETENSORS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
OTHERS = {
    ".mat": "a MATLAB file", ".h5": "an HDF5 file", ".hdf5": "an HDF5 file", ".pkl": "a pickle, which may hold code",
    ".pickle": "a pickle, which may hold code", ".pt": "a PyTorch file", ".pth": "a PyTorch file",
}  # fmt: skip
EXPECTED = "expected a .npz, .npy or .safetensors file, or a folder of .npy files"


def arrays_in(path: str, key: str = "data.path") -> dict[str, StoredArray]:
    """Return the arrays of a file by name; a .npy file has one, of the file's name without the suffix.

    Args:
        path: a file, or a folder of .npy files.
        key: the configuration key that names it, for messages.

    Raises:
        UserError: no such file, another format, or an array that cannot be read.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        files = sorted(each for each in place.iterdir() if each.suffix.lower() == ".npy")[: MOST_ARRAYS + 1]
        if not files:
            raise UserError(Problem(key, "no .npy files in this folder", given=path))
        return _bounded({each.stem: _npy(each) for each in files}, place)
    suffix = place.suffix.lower()
    if not place.exists():
        raise UserError(Problem(key, "no such file", given=path))
    if suffix not in SUFFIXES:
        advice = "In Python: numpy.savez('data.npz', x=..., y=...)." if suffix in OTHERS else ""
        reason = f"{OTHERS[suffix]}; {EXPECTED}" if suffix in OTHERS else EXPECTED
        raise UserError(Problem(key, reason, given=path, advice=advice))
    if suffix == ".npy":
        return {place.stem: _npy(place)}
    with open_regular(place, follow=True) as file:
        return _bounded(_npz(place, file) if suffix == ".npz" else safetensors(place, file), place)


def _bounded(arrays: dict[str, StoredArray], place: Path) -> dict[str, StoredArray]:
    if len(arrays) > MOST_ARRAYS:
        raise UserError(Problem(str(place), f"more than {MOST_ARRAYS:,} arrays"))
    return arrays


def _npy(path: Path) -> StoredArray:
    with open_regular(path, follow=True) as file:
        return from_header(path.stem, path, file, os.fstat(file.fileno()).st_size)


def _npz(path: Path, file: IO[bytes]) -> dict[str, StoredArray]:
    arrays = {}
    try:
        with zipfile.ZipFile(file) as archive:
            infos = [info for info in archive.infolist() if info.filename.endswith(".npy")][: MOST_ARRAYS + 1]
            for info in infos:
                name = info.filename.removesuffix(".npy")
                try:
                    with archive.open(info) as member:
                        array = from_header(name, path, member, info.file_size, info.filename)
                        header = member.tell()
                except Damage as error:
                    raise error if isinstance(error, UserError) else damaged(path, name, error) from error
                if info.compress_type == zipfile.ZIP_STORED:
                    array = replace(array, offset=_start(file, info) + header)
                arrays[name] = array
    except Damage as error:
        raise error if isinstance(error, UserError) else damaged(path, path.name, error) from error
    if not arrays:
        raise UserError(Problem("data.path", "it holds no arrays", given=str(path)))
    return arrays


def _start(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Return where the content of an uncompressed member begins.

    Raises:
        ValueError: the file ends before the member does.
    """
    file.seek(info.header_offset)
    _, name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    start = info.header_offset + LOCAL_HEADER.size + name + extra
    if start + info.file_size > os.fstat(file.fileno()).st_size:
        raise ValueError("it is cut short")
    return start


def safetensors(path: Path, file: IO[bytes], types: Mapping[str, Any] = SAFETENSORS) -> dict[str, StoredArray]:
    """Return the arrays of an open safetensors file by name; `types` are numpy's names of the accepted types.

    Raises:
        UserError: the header is damaged, or names another type.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, MOST_HEADER):
        raise damaged(path, path.name, f"its header is said to have {length:,} bytes")
    try:
        header = json.loads(file.read(length))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        arrays = {name: _tensor(name, path, entry, 8 + length, types) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise damaged(path, path.name, f"its header is not that of a safetensors file ({error})") from error
    for array in arrays.values():
        if (array.offset or 0) + array.num_bytes > size:
            raise damaged(path, array.name, f"{shape_of(array)} end after the file does")
    return arrays


def _tensor(name: str, path: Path, entry: Any, start: int, types: Mapping[str, Any]) -> StoredArray:
    if entry["dtype"] not in types:
        reason = f"its type is {str(entry['dtype'])[:20]}; expected one of {', '.join(types)}"
        raise UserError(Problem(name, reason, source=str(path)))
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if not all(type(number) is int and number >= 0 for number in (begin, end, *shape)):
        raise ValueError("shape and offsets are whole numbers")
    array = StoredArray(name, path, shape, np.dtype(types[entry["dtype"]]), False, start + begin)
    check_type(array)
    if array.num_bytes != end - begin:
        raise damaged(path, name, f"{shape_of(array)} need {array.num_bytes:,} bytes, and it has {end - begin:,}")
    return array
