"""Colour jitter as one affine map of the channels of each image, so that it takes a single pass over the pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from trainer.data.augment.base import Augmentation

LUMA = (0.299, 0.587, 0.114)  # perceived brightness of red, green and blue (ITU-R BT.601)


@dataclass
class ColourJitter(Augmentation):
    """Random brightness, contrast, saturation and hue, changed in this order.

    Brightness, contrast and saturation are multiplied by factors from 1 - x to 1 + x. Hue rotates colours around the
    axis of greys, which keeps greys and the sum of the channels; the rotation of HSV, which is not linear, agrees with
    it at thirds of a circle.

    Args:
        brightness: largest change, as a share.
        contrast: largest change, as a share.
        saturation: largest change, as a share.
        hue: largest rotation either way, in full circles.
        mean: per channel from 0 to 255, by which images were normalised; filled in by the program. If it is None or
            0, images are floats that were not normalised, and results are not clipped to the range of a byte.
        std: the same for the standard deviation.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.0
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not all(0 <= share <= 1 for share in (self.brightness, self.contrast, self.saturation)):
            raise ValueError("brightness, contrast and saturation must be from 0 to 1")
        if not 0 <= self.hue <= 0.5:
            raise ValueError("hue must be from 0 to 0.5")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        batch, channels = images.shape[:2]
        draws = torch.rand(4, batch, generator=generator, device=images.device, dtype=images.dtype) * 2 - 1
        mean, std = (
            torch.tensor(values or [default] * channels, dtype=images.dtype, device=images.device)
            for values, default in ((self.mean, 0.0), (self.std, 1.0))
        )
        pixels = images.mean((2, 3)) * std + mean  # [B, C], mean of each image
        matrix, shift = self._affine(draws, pixels)
        # The same map for normalised values x, where a pixel is x * std + mean.
        shift = (matrix @ mean + shift - mean) / std
        matrix = matrix * std / std[:, None]
        changed = torch.baddbmm(shift[:, :, None], matrix, images.flatten(2)).view(images.shape)
        if not any(self.mean or ()):
            return changed
        low, high = ((bound - mean) / std for bound in (0.0, 255.0))
        return changed.clamp_(low.view(-1, 1, 1), high.view(-1, 1, 1))

    def _affine(self, draws: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return matrices [B, C, C] and shifts [B, C] for draws [4, B] in (-1, 1) and mean pixels [B, C]."""
        channels = pixels.shape[1]
        weights = pixels.new_tensor(LUMA if channels == 3 else [1 / channels] * channels)
        brightness, contrast, saturation = (
            1 + draw * share
            for draw, share in zip(draws[:3], (self.brightness, self.contrast, self.saturation), strict=True)
        )
        identity = torch.eye(channels, dtype=pixels.dtype, device=pixels.device)
        grey = weights.expand(channels, channels)  # maps a pixel to its grey
        matrix = saturation[:, None, None] * identity + (1 - saturation)[:, None, None] * grey
        if self.hue and channels == 3:
            matrix = _rotation(draws[3] * self.hue * 2 * math.pi, identity) @ matrix
        # An equal shift of all channels is not changed by saturation and hue.
        shift = (1 - contrast) * brightness * (pixels @ weights)
        return matrix * (brightness * contrast)[:, None, None], shift[:, None].expand(-1, channels)


def _rotation(angles: Tensor, identity: Tensor) -> Tensor:
    """Return rotations [B, 3, 3] by angles [B] around the axis (1, 1, 1), by Rodrigues' formula."""
    cross = (identity.roll(-1, 1) - identity.roll(1, 1)) / math.sqrt(3)
    projection = torch.full_like(identity, 1 / 3)
    sin, cos = torch.sin(angles)[:, None, None], torch.cos(angles)[:, None, None]
    return cos * identity + (1 - cos) * projection + sin * cross
