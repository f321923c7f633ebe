"""Strong augmentation: an affine map, colour jitter and random erasing, each set by a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Generator, Tensor

from trainer.data.augment.base import Augmentation
from trainer.data.augment.colour import ColourJitter
from trainer.data.augment.erasing import RandomErasing
from trainer.data.augment.geometry import RandomAffine


@dataclass
class Strong(Augmentation):
    """A random affine map, colour jitter of images with three channels, and random erasing, in this order.

    Args:
        degrees: see `RandomAffine`.
        translate: see `RandomAffine`.
        scale: see `RandomAffine`.
        shear: see `RandomAffine`.
        colour: largest change of brightness, contrast and saturation, as a share.
        erase: share of the images with an erased rectangle.
        erase_area: largest share of an image that the rectangle covers.
        mean: per channel, see `ColourJitter`.
        std: the same for the standard deviation.
    """

    degrees: float = 15.0
    translate: float = 0.1
    scale: float = 0.15
    shear: float = 10.0
    colour: float = 0.3
    erase: float = 0.25
    erase_area: float = 0.2
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.colour < 1 and 0 <= self.erase <= 1 and 0 < self.erase_area <= 1):
            raise ValueError("colour must be from 0 to below 1, erase from 0 to 1, erase_area from above 0 to 1")
        self.affine = RandomAffine(self.degrees, self.translate, self.scale, self.shear)
        self.jitter = ColourJitter(self.colour, self.colour, self.colour, mean=self.mean, std=self.std)
        self.erasing = RandomErasing(self.erase, self.erase_area)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        images = self.affine(images, generator)
        if self.colour and images.shape[1] == 3:
            images = self.jitter(images, generator)
        return self.erasing(images, generator) if self.erase else images
