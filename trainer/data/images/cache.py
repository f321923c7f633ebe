"""Cache files of decoded images: written once, identified by a digest of their origin, checked before use.

A cache file holds rows of uint8 [H, W, C], a digest of each row, a description in JSON, and a trailer with digest and
length of the latter two. It is written as `NAME.part` under an exclusive lock and renamed when it is complete. Readers
hold a shared lock, so that no file in use is evicted; the file itself is the lock, which a file beside it (filelock)
could not be without outliving it. Not .npy: it has no place for digests, and numpy's `open_memmap` ends the process
by SIGBUS on a full disk, where `pwrite` raises an OSError, and where somebody cuts the file off. The digests of rows
are compared when rows are read (rows.py).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import re
import shutil
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO

from trainer.data.images.cache_key import CacheKey
from trainer.data.images.decode import DIGEST_BYTES, try_decode
from trainer.data.images.pool import Progress, decode_all
from trainer.data.images.rows import CachedRows, is_at, open_rows
from trainer.data.images.serve import DecodeResult

TRAILER = struct.Struct("<16sQ")  # digest and length of the section between the rows and the trailer
NAMES = re.compile(r"[0-9a-f]{16}-[0-9a-f]{32}\.(rows|part)")
KEEP_SECONDS = 30 * 24 * 3600
KEEP_BYTES = 20 * 10**9
WAITING = "waiting for another run that decodes the same images"


@dataclass
class ImageCache:
    """An open cache file; `rows` also holds the lock."""

    rows: CachedRows
    result: DecodeResult


def default_folder() -> Path:
    """Return `trainer/images` in `$XDG_CACHE_HOME`, which counts only if it is absolute, or in `~/.cache`.

    Not platformdirs: two lines fewer, but 4.3 takes a relative path too, and on macOS the folder is another one.

    Raises:
        OSError: there is no home folder.
    """
    configured = os.environ.get("XDG_CACHE_HOME", "")
    try:
        cache = Path(configured) if os.path.isabs(configured) else Path.home() / ".cache"
    except RuntimeError as error:
        raise OSError(errno.ENOENT, str(error)) from error
    return cache / "trainer" / "images"


def obtain(
    key: CacheKey, shape: tuple[int, ...], folder: Path, progress: Progress, disk_share: float = 1.0
) -> ImageCache:
    """Open the cache file of these images; decode them into a new one if there is none.

    If two runs need the same file at once, one writes it and the other waits.

    Args:
        shape: [H, W, C] of a row.
        folder: created if it is missing.
        progress: called while images are decoded, here or by another run.
        disk_share: of the free disk, which a new file may take.

    Raises:
        SizeMismatch: an image is not of this shape.
        OSError: the folder cannot be used, or the disk is full.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{key.origin}-{key.digest}.rows"
    part = path.with_suffix(".part")
    while True:
        if cache := _open(path, key, shape):
            return cache
        with _locked(part, progress) as file:
            if file is None or (cache := _open(path, key, shape)):
                continue  # another run has written it meanwhile
            new_bytes = len(key.files) * math.prod(shape)
            _evict(folder, path, new_bytes)
            if new_bytes > disk_share * shutil.disk_usage(folder).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
            _write(part, file, key, shape, progress)
            fcntl.flock(file, fcntl.LOCK_SH)  # like its readers
            os.replace(part, path)


@contextlib.contextmanager
def _locked(part: Path, progress: Progress) -> Iterator[int | None]:
    """Open and lock the file; None if it was renamed or removed while this process waited.

    On exit the file is removed if it has not been renamed.
    """
    file = open_rows(part, os.O_RDWR | os.O_CREAT)
    try:
        while not _lock(file, fcntl.LOCK_EX):
            progress(WAITING, 0, 0)
            time.sleep(0.1)
        current = is_at(file, part)
        try:
            yield file if current else None
        finally:
            if current and is_at(file, part):
                part.unlink()
    finally:
        os.close(file)


def _lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(part: Path, file: int, key: CacheKey, shape: tuple[int, ...], progress: Progress) -> None:
    os.ftruncate(file, 0)  # a killed run may have left something
    result = decode_all(key.paths, shape, key.spec, part, progress)
    description = {"key": key.digest, "shape": [len(key.files), *shape], "problems": result.problems}
    section = result.digests + json.dumps(description).encode()
    trailer = TRAILER.pack(blake2b(section, digest_size=16).digest(), len(section))
    with open(file, "r+b", closefd=False) as opened:
        opened.seek(len(key.files) * math.prod(shape))
        opened.write(section + trailer)
        opened.flush()
        os.fsync(file)


def _open(path: Path, key: CacheKey, shape: tuple[int, ...]) -> ImageCache | None:
    """Open a cache file; None if it is missing, damaged, locked by an eviction or made from other files or settings."""
    try:
        descriptor = open_rows(path)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        result = _read(file, key, shape) if _lock(descriptor, fcntl.LOCK_SH) else None
        if result is None:
            return None
        with contextlib.suppress(PermissionError):  # another user's file, whose age is that user's affair
            os.utime(descriptor)
        # The lock belongs to the open file, which the copy of its descriptor keeps open.
        rows = CachedRows(path.absolute(), os.dup(descriptor), (len(key.files), *shape), result.digests)
        return ImageCache(rows, result)


def _read(file: IO[bytes], key: CacheKey, shape: tuple[int, ...]) -> DecodeResult | None:
    """Read everything but the rows; None if the file is damaged or made from other files or settings."""
    count, row_bytes = len(key.files), math.prod(shape)
    length = file.seek(0, os.SEEK_END)
    if length < count * row_bytes + TRAILER.size:
        return None
    file.seek(length - TRAILER.size)
    digest, size = TRAILER.unpack(file.read())
    if size != length - TRAILER.size - count * row_bytes:
        return None
    file.seek(count * row_bytes)
    section = file.read(size)
    if blake2b(section, digest_size=16).digest() != digest:
        return None
    try:
        description = json.loads(section[count * DIGEST_BYTES :])
        if (description["key"], description["shape"]) != (key.digest, [count, *shape]):
            return None
        problems = [(int(number), str(reason)) for number, reason in description["problems"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    # A bad file may be readable by now: permissions, for example, are not part of the key.
    for number, _ in problems:
        if not 0 <= number < count or try_decode(key.paths[number], key.spec) is not None:
            return None
    return DecodeResult(section[: count * DIGEST_BYTES], problems)


def _evict(folder: Path, new: Path, new_bytes: int) -> None:
    """Remove unused leftovers, superseded files of the same folder, old files, then the oldest above KEEP_BYTES."""
    files = []
    for path in folder.iterdir():
        if NAMES.fullmatch(path.name) and path.stem != new.stem:
            with contextlib.suppress(FileNotFoundError):  # another run evicts too
                files.append((path.lstat(), path))
    total = new_bytes
    for stat, path in sorted(files, key=lambda entry: -entry[0].st_mtime):
        total += stat.st_size
        superseded = path.suffix == ".part" or path.name[:16] == new.name[:16]
        old = stat.st_mtime < time.time() - KEEP_SECONDS
        if (superseded or old or total > KEEP_BYTES) and _remove(path):
            total -= stat.st_size


def _remove(path: Path) -> bool:
    """Remove a file unless a process uses it; return whether it was removed."""
    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # gone, or another user's
        return False
    try:
        unused = _lock(file, fcntl.LOCK_EX) and is_at(file, path)
        if unused:
            path.unlink()
        return unused
    finally:
        os.close(file)
