"""Data sets of other libraries whose items are opened images: decoded once, and kept in memory."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch

from trainer import device
from trainer.data.images.decode import BadImage, DecodeSpec, from_image
from trainer.data.images.pool import Progress
from trainer.data.samples import Arrays
from trainer.errors import Problem, UserError

MEMORY_SHARE = 0.5  # of the free memory, for decoded images
AT_A_TIME = 512  # images between two reports of progress


class Items(Protocol):
    """Pairs of an opened image and a class."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Any: ...


def decode_items(loaded: Items, name: str, spec: DecodeSpec, progress: Progress) -> Arrays:
    """Return the samples of a data set whose items are pairs of an opened image and a class, all decoded.

    Raises:
        UserError: an image cannot be used, they differ in size, or they do not fit in memory.
    """

    def decode(index: int) -> tuple[np.ndarray, int]:
        try:
            image, target = loaded[index]
            return from_image(image, spec), int(target)
        except (BadImage, OSError, ValueError, SyntaxError) as error:  # Pillow's own errors are among them
            reason = "cannot be read" if not isinstance(error, BadImage) else str(error)
            raise UserError(Problem(f"image {index} of {name}", reason, check="unreadable images")) from error

    count, (first, _) = len(loaded), decode(0)
    free = device.free_memory(torch.device("cpu"))
    if count * first.nbytes > MEMORY_SHARE * free:
        reason = f"{count:,} images of {first.shape[0]} x {first.shape[1]} pixels do not fit in memory"
        advice = "A smaller data.size takes less; data=image_folder reads a folder of any size."
        raise UserError(Problem("data.name", reason, given=name, advice=advice))
    images, targets = np.empty((count, *first.shape), np.uint8), np.empty(count, np.int64)

    def fill(index: int) -> None:
        pixels, target = decode(index)
        if pixels.shape != first.shape:
            sizes = " and ".join(f"{height} x {width}" for height, width, _ in (first.shape, pixels.shape))
            reason = f"images differ in size: {sizes} pixels"
            raise UserError(Problem("data.size", reason, command="data.size=224", check="shapes"))
        images[index], targets[index] = pixels, target

    with ThreadPoolExecutor(device.cores()) as pool:
        indices = iter(range(count))
        while batch := list(itertools.islice(indices, AT_A_TIME)):
            list(pool.map(fill, batch))
            progress("decoding", batch[-1] + 1, count)
    return Arrays(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(targets))
