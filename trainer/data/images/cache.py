"""Decoded images in files of a cache folder: made once, found again by what they were made from, never trusted.

A store is rows of uint8 [H, W, 3], a digest of each row, a description in JSON and a trailer that covers the latter
two. It is written as `NAME.part` under a lock and renamed when it is whole; who reads it holds a shared lock, so that
none is removed that is in use.
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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

import numpy as np
import PIL

from trainer.data.images.decode import DIGEST_BYTES, DecodeResult, ResizeSpec, probe
from trainer.data.images.pool import Progress, decode_all
from trainer.errors import UserError

FORMAT = "trainer images 1"
TRAILER = struct.Struct("<16sQ")  # digest and length of what stands between the rows and it
NAMES = re.compile(r"[0-9a-f]{16}-[0-9a-f]{32}\.(rows|part)")
KEEP_SECONDS = 30 * 24 * 3600
KEEP_BYTES = 20 * 10**9
WAITING = "waiting for another run that decodes the same images"


@dataclass(frozen=True)
class CacheKey:
    """What a store is made from.

    Attributes:
        root: the folder of the images.
        files: (path relative to the root, size, times of last change) of each file, in the order of the rows.
        classes: those that were asked for: other ones are a store of their own.
    """

    root: Path
    files: list[tuple[str, int, int, int]]
    geometry: ResizeSpec
    classes: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls, root: Path, paths: Iterable[str], geometry: ResizeSpec, classes: tuple[str, ...] | None = None
    ) -> CacheKey:
        """For these files as they are now.

        Raises:
            UserError: one is gone.
        """
        files = []
        for path in paths:
            try:
                stat = os.stat(root / path)
            except OSError as error:
                shown = os.fsencode(root / path).decode(errors="replace")
                raise UserError(f"{shown}: cannot be read ({error.strerror}).") from error
            files.append((path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
        return cls(root, files, geometry, classes)

    @cached_property
    def paths(self) -> list[str]:
        """Of the files."""
        return [os.path.join(self.root, file[0]) for file in self.files]

    @cached_property
    def origin(self) -> str:
        """The same as long as folder and settings are, whatever becomes of the files."""
        return _digest(str(self.root), self.geometry, self.classes, size=8)

    @cached_property
    def key(self) -> str:
        return _digest(FORMAT, PIL.__version__, self.origin, self.files, size=DIGEST_BYTES)


def _digest(*what: Any, size: int) -> str:
    return blake2b(repr(what).encode("utf-8", "surrogateescape"), digest_size=size).hexdigest()


@dataclass
class ImageCache:
    """An open store: `rows` [N, H, W, 3] through a mapping, which also holds the lock, and what was found."""

    rows: np.ndarray
    found: DecodeResult


def default_folder() -> Path:
    """`trainer/images` in the user's cache folder.

    Raises:
        OSError: there is no home folder.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        cache = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    except RuntimeError as error:
        raise OSError(errno.ENOENT, str(error)) from error
    return cache / "trainer" / "images"


def obtain(
    recipe: CacheKey, shape: tuple[int, ...], folder: Path, progress: Progress, disk_share: float = 1.0
) -> ImageCache:
    """The store of these images, made if there is none.

    Of two runs that want the same one at once, one makes it and the other waits.

    Args:
        shape: [H, W, 3] of a row.
        disk_share: how much of the free disk a new store may take.

    Raises:
        Unequal: an image is not of this shape.
        OSError: the folder cannot be used, or the disk is full.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{recipe.origin}-{recipe.key}.rows"
    part = path.with_suffix(".part")
    while True:
        if store := _open(path, recipe, shape):
            return store
        with _locked(part, progress) as file:
            if file is None or (store := _open(path, recipe, shape)):
                continue  # another run was at it
            needed = len(recipe.files) * math.prod(shape)
            _tidy(folder, path, needed)
            if needed > disk_share * shutil.disk_usage(folder).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
            _make(part, file, recipe, shape, progress)
            fcntl.flock(file, fcntl.LOCK_SH)  # as its readers will
            os.replace(part, path)


@contextlib.contextmanager
def _locked(part: Path, progress: Progress) -> Iterator[int | None]:
    """The file with its lock; None where it was renamed or removed while this process waited.

    If it is still there when all is over, it goes.
    """
    file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        while not _lock(file, fcntl.LOCK_EX):
            progress(WAITING, 0, 0)
            time.sleep(0.1)
        mine = _is_at(file, part)
        try:
            yield file if mine else None
        finally:
            if mine and _is_at(file, part):
                part.unlink()
    finally:
        os.close(file)


def _lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: int, path: Path) -> bool:
    """Whether the open file is still what stands at the path."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _make(part: Path, file: int, recipe: CacheKey, shape: tuple[int, ...], progress: Progress) -> None:
    os.ftruncate(file, 0)  # a run that was killed may have left something
    found = decode_all(recipe.paths, shape, recipe.geometry, part, progress)
    about = {"key": recipe.key, "shape": [len(recipe.files), *shape], "problems": found.problems}
    described = found.digests + json.dumps(about).encode()
    trailer = TRAILER.pack(blake2b(described, digest_size=16).digest(), len(described))
    with open(file, "r+b", closefd=False) as opened:
        opened.seek(len(recipe.files) * math.prod(shape))
        opened.write(described + trailer)
        opened.flush()
        os.fsync(file)


def _open(path: Path, recipe: CacheKey, shape: tuple[int, ...]) -> ImageCache | None:
    """The store, if there is one, it is whole, and it holds what it should."""
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW))  # noqa: SIM115
    except FileNotFoundError:
        return None
    with file:
        found = _read(file, recipe, shape) if _lock(file.fileno(), fcntl.LOCK_SH) else None
        if found is None:
            return None
        with contextlib.suppress(PermissionError):  # of another user's: theirs to keep in use
            os.utime(file.fileno())
        return ImageCache(np.memmap(file, np.uint8, "r", shape=(len(recipe.files), *shape)), found)


def _read(file: IO[bytes], recipe: CacheKey, shape: tuple[int, ...]) -> DecodeResult | None:
    """What the file says became of the images; None where it is damaged or says something else."""
    count, row = len(recipe.files), math.prod(shape)
    length = file.seek(0, os.SEEK_END)
    if length < count * row + TRAILER.size:
        return None
    file.seek(length - TRAILER.size)
    digest, size = TRAILER.unpack(file.read())
    if size != length - TRAILER.size - count * row:
        return None
    file.seek(count * row)
    described = file.read(size)
    if blake2b(described, digest_size=16).digest() != digest:
        return None
    try:
        about = json.loads(described[count * DIGEST_BYTES :])
        if (about["key"], about["shape"]) != (recipe.key, [count, *shape]):
            return None
        problems = [(int(number), str(reason)) for number, reason in about["problems"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    # A bad file may have become a good one: what was in the way, such as permissions, does not stand in the key.
    for number, _ in problems:
        if not 0 <= number < count or probe(recipe.paths[number], recipe.geometry) is not None:
            return None
    return DecodeResult(described[: count * DIGEST_BYTES], problems)


def _tidy(folder: Path, coming: Path, needed: int) -> None:
    """Removes what nobody uses: leftovers, older stores of the same folder, what is old, the oldest of too much."""
    files = []
    for path in folder.iterdir():
        if NAMES.fullmatch(path.name) and path.stem != coming.stem:
            with contextlib.suppress(FileNotFoundError):  # another run tidies too
                files.append((path.lstat(), path))
    total = needed
    for stat, path in sorted(files, key=lambda entry: -entry[0].st_mtime):
        total += stat.st_size
        superseded = path.suffix == ".part" or path.name[:16] == coming.name[:16]
        old = stat.st_mtime < time.time() - KEEP_SECONDS
        if (superseded or old or total > KEEP_BYTES) and _remove(path):
            total -= stat.st_size


def _remove(path: Path) -> bool:
    """Removes a file that no process uses; whether it is gone."""
    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # gone, or another user's
        return False
    try:
        free = _lock(file, fcntl.LOCK_EX) and _is_at(file, path)
        if free:
            path.unlink()
        return free
    finally:
        os.close(file)
