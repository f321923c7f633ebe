"""Rows of a cache file, compared with their digests when they are first read. Shape letters: N rows, B rows read."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import stat
import weakref
from hashlib import blake2b
from pathlib import Path

import numpy as np

from trainer.data.images.decode import DIGEST_BYTES

UNREAD, SOUND, DAMAGED = 0, 1, 2  # states of a row


class CachedRows:
    """The rows of an open cache file, which stays open, and locked, as long as this object exists.

    They are read by `pread`: a memory map would end the process by SIGBUS if the file is cut off under its reader.
    Forked processes share the file and what is known of its rows, so each row is compared once for all of them.

    Args:
        path: absolute path of the file.
        file: its descriptor, which this object closes.
        shape: [N, H, W, C].
        digests: DIGEST_BYTES for each row.
    """

    def __init__(self, path: Path, file: int, shape: tuple[int, ...], digests: bytes) -> None:
        self.path, self.shape, self.digests = path, shape, digests
        self._hold(file)

    def _hold(self, file: int) -> None:
        self.file, self.states = file, mmap.mmap(-1, self.shape[0])  # shared with forked processes
        self._closing = weakref.finalize(self, os.close, file)

    def read(self, rows_B: np.ndarray) -> tuple[np.ndarray, list[int]]:
        """Return pixels, uint8 [B, H, W, C], and the places in B of damaged rows, whose pixels are undefined."""
        pixels = np.empty((len(rows_B), *self.shape[1:]), np.uint8)
        size, data = math.prod(self.shape[1:]), pixels.data.cast("B")
        damaged = [
            place
            for place, row in enumerate(rows_B.tolist())
            if not self._read(row, data[place * size : (place + 1) * size])
        ]
        return pixels, damaged

    def _read(self, row: int, data: memoryview) -> bool:
        """Fill `data` with a row; return whether it is sound."""
        try:
            whole = os.preadv(self.file, [data], row * len(data)) == len(data)
        except OSError:  # the disk cannot read it
            whole = False
        if self.states[row] == UNREAD or not whole:
            stored = self.digests[row * DIGEST_BYTES : (row + 1) * DIGEST_BYTES]
            sound = whole and blake2b(data, digest_size=DIGEST_BYTES).digest() == stored
            self.states[row] = SOUND if sound else DAMAGED
            if not sound:
                self._discard()
        return self.states[row] == SOUND

    def _discard(self) -> None:
        """Remove the damaged file, so that the next run makes it anew, unless it is in a folder of another user."""
        with contextlib.suppress(OSError):
            if is_at(self.file, self.path):
                self.path.unlink()

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "shape": self.shape, "digests": self.digests}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Open the file in a worker process that is not forked; if it is gone by now, all rows count as damaged."""
        self.__dict__.update(state)
        try:
            self._hold(open_rows(self.path))
        except OSError:
            self._hold(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def open_rows(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a cache file, without following a link or waiting for the other end of a pipe.

    Raises:
        OSError: it cannot be opened, is not a regular file, or has another name too and could be written to.
    """
    file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode) or (flags != os.O_RDONLY and status.st_nlink > 1):
        os.close(file)
        raise OSError(0, "not a regular file with one name", str(path))
    return file


def is_at(file: int, path: Path) -> bool:
    """Return whether the path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False
