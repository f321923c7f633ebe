"""Random erasing: a random rectangle in a fraction of the images is set to the mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from trainer.data.augment.base import Augmentation

MAX_ASPECT = 3.3  # longer side of the rectangle / shorter side, as in the paper


@dataclass
class RandomErasing(Augmentation):
    """Random erasing (Zhong et al. 2020): a random rectangle is set to 0, the mean of normalised images.

    Args:
        probability: share of the images with an erased rectangle.
        area: largest share of an image that the rectangle covers.
    """

    probability: float = 0.25
    area: float = 0.2

    def __post_init__(self) -> None:
        if not (0 <= self.probability <= 1 and 0 < self.area <= 1):
            raise ValueError("probability must be from 0 to 1, area from above 0 to 1")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        batch, _, height, width = images.shape
        device, dtype = images.device, images.dtype
        draws = torch.rand(5, batch, 1, 1, 1, generator=generator, device=device, dtype=dtype)
        area, aspect = self.area * draws[1], torch.exp((draws[2] * 2 - 1) * math.log(MAX_ASPECT))
        erased_height, erased_width = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
        rows = torch.linspace(0, 1, height, device=device, dtype=dtype).view(1, 1, height, 1)
        columns = torch.linspace(0, 1, width, device=device, dtype=dtype).view(1, 1, 1, width)
        top, left = draws[3] * (1 - erased_height), draws[4] * (1 - erased_width)
        inside = (rows >= top) & (rows <= top + erased_height) & (columns >= left) & (columns <= left + erased_width)
        return images.masked_fill(inside & (draws[0] < self.probability), 0)
