"""Augmentations that move pixels: affine maps, flips and crops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from trainer.data.augment.base import Augmentation

TRIES = 10  # windows drawn per image, of which the first that fits is used, as torchvision does


@dataclass
class RandomAffine(Augmentation):
    """Rotation, translation, scaling and shear around the centre; pixels from outside repeat the border.

    Args:
        degrees: largest angle of rotation either way.
        translate: largest shift either way, as a share of the image's side.
        scale: sizes are drawn from 1 - scale to 1 + scale.
        shear: largest angle, either way, by which vertical lines lean, in degrees.
    """

    degrees: float = 10.0
    translate: float = 0.08
    scale: float = 0.1
    shear: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.degrees <= 180 and 0 <= self.translate <= 1 and 0 <= self.scale < 1 and 0 <= self.shear < 90):
            raise ValueError("degrees must be from 0 to 180, translate and scale from 0 to 1, shear from 0 to 90")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        draws = torch.rand(4, len(images), generator=generator, device=images.device, dtype=images.dtype) * 2 - 1
        angle = draws[0] * math.radians(self.degrees)
        # grid_sample maps output to input, so a larger image samples a smaller window.
        window = 1 / (1 + draws[1] * self.scale)
        shift_x, shift_y = draws[2] * 2 * self.translate, draws[3] * 2 * self.translate
        height, width = images.shape[-2:]
        cos, sin = torch.cos(angle) * window, torch.sin(angle) * window
        # Coordinates run from -1 to 1 on both axes whatever the sides, so a rotation needs the aspect ratio.
        left, right, low, high = cos, -sin * height / width, sin * width / height, cos
        if self.shear:
            lean = torch.rand(len(images), generator=generator, device=images.device, dtype=images.dtype) * 2 - 1
            slope = torch.tan(lean * math.radians(self.shear)) * height / width
            right, high = right + left * slope, high + low * slope
        theta = torch.stack([left, right, shift_x, low, high, shift_y], dim=1).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass
class FlipCrop(Augmentation):
    """Horizontal flip with probability 1/2, and a random crop of the same size from the padded image.

    Args:
        padding: pixels added to every side, which repeat the border.
        flip: whether to flip.
    """

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


@dataclass
class RandomResizedCrop(Augmentation):
    """Random crop resized to the image's own size (Szegedy et al. 2015), and horizontal flip.

    Windows are distributed like those of torchvision's transform, but not rounded to whole pixels.

    Args:
        scale: smallest and largest share of the image's area.
        ratio: smallest and largest aspect ratio, width / height, of the window in pixels.
        flip: whether to flip with probability 1/2.
    """

    scale: Sequence[float] = (0.08, 1.0)
    ratio: Sequence[float] = (3 / 4, 4 / 3)
    flip: bool = True

    def __post_init__(self) -> None:
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError("scale must be [smallest, largest], from above 0 to 1")
        if len(self.ratio) != 2 or not 0 < self.ratio[0] <= self.ratio[1] < math.inf:
            raise ValueError("ratio must be [smallest, largest], from above 0")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        batch, _, height, width = images.shape
        draws = torch.rand(2, TRIES, batch, generator=generator, device=images.device, dtype=images.dtype)
        places = torch.rand(3, batch, generator=generator, device=images.device, dtype=images.dtype)
        crop_height, crop_width, fits = self._windows(draws, width / height)
        top = torch.where(fits, places[0], 0.5) * (1 - crop_height)
        left = torch.where(fits, places[1], 0.5) * (1 - crop_width)
        step = torch.where(places[2] < 0.5, -crop_width, crop_width) if self.flip else crop_width
        # The axes are independent, which makes this a fifth of the work of affine_grid.
        x = _centres(images, width) * step[:, None] + (2 * left + crop_width - 1)[:, None]
        y = _centres(images, height) * crop_height[:, None] + (2 * top + crop_height - 1)[:, None]
        planes = x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)
        grid = torch.stack(planes, dim=-1)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _windows(self, draws: Tensor, aspect: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return heights and widths as shares of the image's, and whether any of the tries fits, each [B].

        `draws` are uniform random numbers [2, TRIES, B]; `aspect` is width / height of the image.
        """
        area = self.scale[0] + draws[0] * (self.scale[1] - self.scale[0])
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = torch.exp(low + draws[1] * (high - low))
        heights, widths = (area / ratio * aspect).sqrt(), (area * ratio / aspect).sqrt()
        fits = (heights <= 1) & (widths <= 1)
        first, any_fits = fits.int().argmax(0, keepdim=True), fits.any(0)
        # If no try fits: the largest central window with an accepted aspect ratio.
        fallback = min(1.0, aspect / self.ratio[0]), min(1.0, self.ratio[1] / aspect)
        return (
            torch.where(any_fits, heights.gather(0, first)[0], fallback[0]),
            torch.where(any_fits, widths.gather(0, first)[0], fallback[1]),
            any_fits,
        )


def _centres(images: Tensor, count: int) -> Tensor:
    """Return the centres of `count` pixels in a row, [count] from -1 to 1."""
    return (2 * torch.arange(count, device=images.device, dtype=images.dtype) + 1) / count - 1
