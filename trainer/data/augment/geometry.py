"""Augmentations that move pixels: affine maps, flips and crops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from trainer.data.augment.base import Augmentation

TRIES = 10  # windows drawn for one that fits into the image


@dataclass
class RandomAffine(Augmentation):
    """Rotation, shift, scaling and shear around the centre; what comes in from outside repeats the border.

    Args:
        degrees: largest angle either way.
        translate: largest shift, as a share of the image's side.
        scale: sizes from 1 - scale to 1 + scale.
        shear: largest angle by which upright lines lean, either way, in degrees.
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


@dataclass
class RandomResizedCrop(Augmentation):
    """A window of random size, shape and place, brought to the image's own size, and mirror images.

    Drawn as torchvision's transform draws it, to a fraction of a pixel.

    Args:
        scale: least and largest share of the image's area.
        ratio: least and largest width / height of the window, in pixels.
        flip: mirror with probability 1/2.
    """

    scale: Sequence[float] = (0.08, 1.0)
    ratio: Sequence[float] = (3 / 4, 4 / 3)
    flip: bool = True

    def __post_init__(self) -> None:
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError("scale is [least, largest], from above 0 to 1")
        if len(self.ratio) != 2 or not 0 < self.ratio[0] <= self.ratio[1] < math.inf:
            raise ValueError("ratio is [least, largest], from above 0")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        batch, _, height, width = images.shape
        draws = torch.rand(2, TRIES, batch, generator=generator, device=images.device, dtype=images.dtype)
        places = torch.rand(3, batch, generator=generator, device=images.device, dtype=images.dtype)
        tall, wide, fitting = self._windows(draws, width / height)
        top = torch.where(fitting, places[0], 0.5) * (1 - tall)
        left = torch.where(fitting, places[1], 0.5) * (1 - wide)
        across = torch.where(places[2] < 0.5, -wide, wide) if self.flip else wide
        # The axes do not mix, so that this is a fifth of the work of affine_grid.
        x = _centres(images, width) * across[:, None] + (2 * left + wide - 1)[:, None]
        y = _centres(images, height) * tall[:, None] + (2 * top + tall - 1)[:, None]
        planes = x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)
        grid = torch.stack(planes, dim=-1)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _windows(self, draws: Tensor, image: float) -> tuple[Tensor, Tensor, Tensor]:
        """Heights and widths as shares of the image's, from draws [2, tries, B], and whether a try fitted, each [B].

        Args:
            image: its width / height.
        """
        area = self.scale[0] + draws[0] * (self.scale[1] - self.scale[0])
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = torch.exp(low + draws[1] * (high - low))
        tall, wide = (area / ratio * image).sqrt(), (area * ratio / image).sqrt()
        fits = (tall <= 1) & (wide <= 1)
        first, fitting = fits.int().argmax(0, keepdim=True), fits.any(0)
        # Where none fits, the largest window in the middle whose shape is accepted.
        whole = min(1.0, image / self.ratio[0]), min(1.0, self.ratio[1] / image)
        return (
            torch.where(fitting, tall.gather(0, first)[0], whole[0]),
            torch.where(fitting, wide.gather(0, first)[0], whole[1]),
            fitting,
        )


def _centres(images: Tensor, count: int) -> Tensor:
    """Of so many pixels in a row, from -1 to 1."""
    return (2 * torch.arange(count, device=images.device, dtype=images.dtype) + 1) / count - 1
