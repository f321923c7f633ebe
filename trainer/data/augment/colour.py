"""Colour jitter: brightness, contrast, saturation and hue of each image as one matrix, so that it costs one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from trainer.data.augment.base import Augmentation

LUMA = (0.299, 0.587, 0.114)  # how bright red, green and blue look (ITU-R BT.601)


@dataclass
class ColourJitter(Augmentation):
    """Factors for brightness, contrast and saturation from 1 - x to 1 + x, and a turn of the hue, in this order.

    Hue turns colours around the axis of greys, which greys and the sum of the channels survive; the turn of HSV, which
    is not linear, agrees with it at thirds of a circle.

    Args:
        brightness, contrast, saturation: largest changes, as shares.
        hue: largest turn either way, in circles.
        mean, std: of each channel, in the unit of a raw image (0 to 255), by which images were normalised: filled in
            by the program. None or a mean of 0: they were not, as they are floats; they are not clipped either.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.0
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not all(0 <= share <= 1 for share in (self.brightness, self.contrast, self.saturation)):
            raise ValueError("brightness, contrast and saturation go from 0 to 1")
        if not 0 <= self.hue <= 0.5:
            raise ValueError("hue goes from 0 to 0.5")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        batch, channels = images.shape[:2]
        draws = torch.rand(4, batch, generator=generator, device=images.device, dtype=images.dtype) * 2 - 1
        mean, std = (
            torch.tensor(values or [default] * channels, dtype=images.dtype, device=images.device)
            for values, default in ((self.mean, 0.0), (self.std, 1.0))
        )
        pixels = images.mean((2, 3)) * std + mean  # of each image, on average: [B, C]
        matrix, shift = self._affine(draws, pixels)
        # The same in normalised values x, where a pixel is x * std + mean.
        shift = (matrix @ mean + shift - mean) / std
        matrix = matrix * std / std[:, None]
        changed = torch.baddbmm(shift[:, :, None], matrix, images.flatten(2)).view(images.shape)
        if not any(self.mean or ()):
            return changed
        low, high = ((bound - mean) / std for bound in (0.0, 255.0))
        return changed.clamp_(low.view(-1, 1, 1), high.view(-1, 1, 1))

    def _affine(self, draws: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Matrices [B, C, C] and shifts [B, C] for pixels, from draws [4, B] in (-1, 1) and mean pixels [B, C]."""
        channels = pixels.shape[1]
        weights = pixels.new_tensor(LUMA if channels == 3 else [1 / channels] * channels)
        brightness, contrast, saturation = (
            1 + draw * share
            for draw, share in zip(draws[:3], (self.brightness, self.contrast, self.saturation), strict=True)
        )
        one = torch.eye(channels, dtype=pixels.dtype, device=pixels.device)
        grey = weights.expand(channels, channels)  # turns a pixel into its grey
        matrix = saturation[:, None, None] * one + (1 - saturation)[:, None, None] * grey
        if self.hue and channels == 3:
            matrix = _turn(draws[3] * self.hue * 2 * math.pi, one) @ matrix
        # A shift of all channels alike passes through saturation and hue unchanged.
        shift = (1 - contrast) * brightness * (pixels @ weights)
        return matrix * (brightness * contrast)[:, None, None], shift[:, None].expand(-1, channels)


def _turn(angles: Tensor, one: Tensor) -> Tensor:
    """Rotations [B, 3, 3] around the axis (1, 1, 1): Rodrigues' formula."""
    cross = one.roll(-1, 1) - one.roll(1, 1)
    cross, along = cross / math.sqrt(3), torch.full_like(one, 1 / 3)
    sin, cos = torch.sin(angles)[:, None, None], torch.cos(angles)[:, None, None]
    return cos * one + (1 - cos) * along + sin * cross
