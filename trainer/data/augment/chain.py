"""A sequence of augmentations, listed in YAML."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor

from trainer.data.augment.base import Augmentation
from trainer.data.augment.colour import ColourJitter
from trainer.data.augment.erasing import RandomErasing
from trainer.data.augment.geometry import FlipCrop, RandomAffine, RandomResizedCrop

STEPS: dict[str, type[Augmentation]] = {
    kind.__name__: kind for kind in (RandomResizedCrop, FlipCrop, RandomAffine, ColourJitter, RandomErasing)
}


@dataclass
class Chain(Augmentation):
    """Augmentations in sequence.

    `steps` are names, or names with arguments: `[FlipCrop, {ColourJitter: {hue: 0.1}}]`. Those that take `mean` and
    `std`, per channel, receive them.
    """

    steps: Sequence[Any]
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.steps, (list, tuple)) or not self.steps:
            raise ValueError("steps must be a list of one or more augmentations")
        self.augmentations = [self._step(entry, number) for number, entry in enumerate(self.steps, 1)]

    def _step(self, entry: Any, number: int) -> Augmentation:
        name, arguments = next(iter(entry.items())) if isinstance(entry, dict) and len(entry) == 1 else (entry, {})
        if not isinstance(name, str) or name not in STEPS or not isinstance(arguments, dict):
            raise ValueError(
                f"step {number} is {entry}; expected one of {', '.join(STEPS)}, or with arguments "
                "{FlipCrop: {padding: 2}}"
            )
        parameters = inspect.signature(STEPS[name]).parameters
        statistics = {key: value for key, value in (("mean", self.mean), ("std", self.std)) if key in parameters}
        return STEPS[name](**statistics, **arguments)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        for augmentation in self.augmentations:
            images = augmentation(images, generator)
        return images
