"""Samples that are image files or decoded images. Shape letters: N samples, H and W pixels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from trainer.data.images.decode import BadImage, ResizeSpec, decode
from trainer.data.images.listing import readable
from trainer.data.samples import Samples
from trainer.device import cores
from trainer.errors import Problem, UserError


class DecodedImages(Samples):
    """Selected rows of an array or a cache file; each is a uint8 image [3, H, W], channels last in memory.

    Args:
        rows: uint8 [rows, H, W, 3].
        positions: int64 [N], the row of each sample.
        targets: int64 [N].
        digest: the fingerprint.
    """

    def __init__(self, rows: np.ndarray, positions: np.ndarray, targets: Tensor, digest: bytes) -> None:
        self.rows, self.positions, self.targets, self.digest = rows, positions, targets, digest

    def take(self, indices: Tensor) -> Tensor:
        pixels = np.take(self.rows, self.positions[indices.numpy()], axis=0)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def fingerprint(self) -> bytes:
        return self.digest

    def __getstate__(self) -> dict[str, object]:
        """Pickle the path of a cache file instead of its rows, for worker processes that are not forked."""
        rows = self.rows
        return self.__dict__ | ({"rows": (rows.filename, rows.shape)} if isinstance(rows, np.memmap) else {})

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        if isinstance(self.rows, tuple):
            path, shape = self.rows
            self.rows = np.memmap(path, np.uint8, "r", shape=shape)


class ImageFiles(Samples):
    """Image files that are decoded whenever they are read; targets are int64 [N], `digest` is the fingerprint."""

    def __init__(self, paths: list[str], spec: ResizeSpec, targets: Tensor, digest: bytes) -> None:
        self.paths, self.spec, self.targets, self.digest = paths, spec, targets, digest

    def take(self, indices: Tensor) -> Tensor:
        if get_worker_info() is not None:  # the other cores have workers of their own
            return torch.stack([self._decode(i) for i in indices.tolist()])
        with ThreadPoolExecutor(cores()) as pool:
            return torch.stack(list(pool.map(self._decode, indices.tolist())))

    def _decode(self, index: int) -> Tensor:
        try:
            pixels = decode(self.paths[index], self.spec)
        except BadImage as error:
            advice = "It was readable when the run began."
            path = readable(self.paths[index])
            raise UserError(Problem(path, str(error), advice=advice, check="unreadable images")) from error
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)

    def fingerprint(self) -> bytes:
        return self.digest
