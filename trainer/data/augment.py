"""Augmentations of a batch on its device, with a draw for each sample from a given generator.

torchvision's transforms draw once for a whole batch, which is why these are here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


class Augmentation(ABC):
    """What `augment._target_` may name: a class of these."""

    @abstractmethod
    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Normalised images [B, C, H, W] to new ones of the same shape; draws only from `generator`."""


@dataclass
class RandomAffine(Augmentation):
    """Rotation, shift and scaling around the centre; what comes in from outside repeats the border.

    Args:
        degrees: largest angle either way.
        translate: largest shift, as a share of the image's side.
        scale: sizes from 1 - scale to 1 + scale.
    """

    degrees: float = 10.0
    translate: float = 0.08
    scale: float = 0.1

    def __post_init__(self) -> None:
        if not (0 <= self.degrees <= 180 and 0 <= self.translate <= 1 and 0 <= self.scale < 1):
            raise ValueError("degrees must be from 0 to 180, translate from 0 to 1, scale from 0 and below 1")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        draws = torch.rand(4, len(images), generator=generator, device=images.device, dtype=images.dtype) * 2 - 1
        angle = draws[0] * math.radians(self.degrees)
        # grid_sample maps output to input, so a larger image samples a smaller window.
        window = 1 / (1 + draws[1] * self.scale)
        shift_x, shift_y = draws[2] * 2 * self.translate, draws[3] * 2 * self.translate
        height, width = images.shape[-2:]
        cos, sin = torch.cos(angle) * window, torch.sin(angle) * window
        # Coordinates run from -1 to 1 on both axes whatever the sides, so a rotation needs the aspect ratio.
        theta = torch.stack([cos, -sin * height / width, shift_x, sin * width / height, cos, shift_y], dim=1).view(
            -1, 2, 3
        )
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass
class FlipCrop(Augmentation):
    """A mirror image with probability 1/2, and a window of the same size out of the image padded with its border."""

    padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.padding <= 64:
            raise ValueError("padding must be from 0 to 64 pixels")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        batch, _, height, width = images.shape
        device = images.device
        starts = torch.randint(0, 2 * self.padding + 1, (2, batch, 1), generator=generator, device=device)
        mirrored = torch.rand(batch, 1, generator=generator, device=device) < 0.5
        rows = starts[0] + torch.arange(height, device=device)
        columns = torch.arange(width, device=device).expand(batch, width)
        if self.flip:
            columns = torch.where(mirrored, width - 1 - columns, columns)
        columns = starts[1] + columns
        padded = F.pad(images, (self.padding,) * 4, mode="replicate") if self.padding else images
        return padded[
            torch.arange(batch, device=device)[:, None, None], :, rows[:, :, None], columns[:, None, :]
        ].permute(0, 3, 1, 2)
