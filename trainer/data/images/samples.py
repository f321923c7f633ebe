"""Samples that are decoded images or image files. Shape letters: N samples, B samples of a batch, H and W pixels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from trainer.data.images.cache_key import CacheKey, identity
from trainer.data.images.decode import DIGEST_BYTES, BadImage, decode
from trainer.data.images.listing import readable
from trainer.data.images.rows import CachedRows
from trainer.data.samples import Samples
from trainer.errors import Problem, UserError, out_of_memory

LARGE_FILE = 32_768  # bytes; decoding smaller files with threads costs more processor time than it saves
CHECK = "unreadable images"  # of the doctor


@dataclass(frozen=True)
class OriginalFiles:
    """The image files that rows were decoded from, and the digest of each row, by which changed files are noticed.

    Attributes:
        key: the files, in the order of the rows.
        shape: [H, W, C] of a row.
        digests: DIGEST_BYTES for each row.
    """

    key: CacheKey
    shape: tuple[int, ...]
    digests: bytes

    def read(self, row: int, *, compare: bool = False) -> np.ndarray:
        """Decode the file of a row; return its pixels, uint8 [H, W, C].

        Args:
            row: its number.
            compare: compare the digest even if size and times of the file are the same as before.

        Raises:
            UserError: the image has changed, or cannot be read any more.
        """
        path = self.key.paths[row]
        try:
            pixels = decode(path, self.key.spec)
        except BadImage as error:
            if error.__cause__ is not None and out_of_memory(error.__cause__):
                raise error.__cause__ from None
            raise _error(path, f"{error}; it was readable when the run began") from error
        if compare or not self._is_unchanged(row):  # looked up after decoding: a change in the meantime shows
            digest = blake2b(np.ascontiguousarray(pixels).data, digest_size=DIGEST_BYTES).digest()
            if pixels.shape != self.shape or digest != self.digests[row * DIGEST_BYTES : (row + 1) * DIGEST_BYTES]:
                raise _error(path, "the image has changed since the run began")
        return pixels

    def _is_unchanged(self, row: int) -> bool:
        try:
            return identity(self.key.paths[row]) == self.key.files[row][1:]
        except OSError:  # it has just been removed
            return False

    @property
    def are_large(self) -> bool:
        """Whether the files are large on average."""
        return sum(size for _, size, *_ in self.key.files) >= LARGE_FILE * len(self.key.files)


class DecodedImages(Samples):
    """Selected rows of an array; each is a uint8 image [C, H, W], channels last in memory.

    Args:
        rows: uint8 [rows, H, W, C].
        positions: int64 [N], the row of each sample.
        targets: int64 [N].
        digest: the fingerprint.
    """

    def __init__(self, rows: np.ndarray, positions: np.ndarray, targets: Tensor, digest: bytes) -> None:
        self.rows, self.positions, self.targets, self.digest = rows, positions, targets, digest

    def take(self, indices: Tensor) -> Tensor:
        return _as_images(np.take(self.rows, self.positions[indices.numpy()], axis=0))

    def fingerprint(self) -> bytes:
        return self.digest


class CachedImages(Samples):
    """Selected rows of a cache file; damaged rows are decoded from their files again. See `DecodedImages`."""

    def __init__(
        self, rows: CachedRows, files: OriginalFiles, positions: np.ndarray, targets: Tensor, digest: bytes
    ) -> None:
        self.rows, self.files, self.positions, self.targets, self.digest = rows, files, positions, targets, digest

    def take(self, indices: Tensor) -> Tensor:
        rows_B = self.positions[indices.numpy()]
        pixels, damaged = self.rows.read(rows_B)
        for place in damaged:
            pixels[place] = self.files.read(int(rows_B[place]), compare=True)
        return _as_images(pixels)

    def fingerprint(self) -> bytes:
        return self.digest


class ImageFiles(Samples):
    """Image files that are decoded whenever they are read; large ones by as many threads as torch uses.

    In a DataLoader's worker process torch uses one thread. See `DecodedImages` for the arguments.
    """

    def __init__(self, files: OriginalFiles, positions: np.ndarray, targets: Tensor, digest: bytes) -> None:
        self.files, self.positions, self.targets, self.digest = files, positions, targets, digest
        self.threaded = files.are_large

    def take(self, indices: Tensor) -> Tensor:
        rows = self.positions[indices.numpy()].tolist()
        pixels = np.empty((len(rows), *self.files.shape), np.uint8)
        threads = torch.get_num_threads() if self.threaded else 1

        def fill(first: int) -> None:
            for place in range(first, len(rows), threads):
                pixels[place] = self.files.read(rows[place])

        if threads == 1:
            fill(0)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(fill, range(threads)))
        return _as_images(pixels)

    def fingerprint(self) -> bytes:
        return self.digest


def _as_images(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _error(path: str, reason: str) -> UserError:
    advice = "Restore it and resume the run, or start a new one."
    return UserError(Problem(readable(path), reason, advice=advice, check=CHECK))
