"""The interface of an augmentation."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Generator, Tensor


class Augmentation(ABC):
    """Base class of augmentations, which `augment._target_` may name.

    Augmentations work on a batch on its device. torchvision's transforms draw once for a whole batch and from torch's
    global generator; these draw for each sample, from the generator that is passed in.
    """

    @abstractmethod
    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Return augmented copies of normalised images [B, C, H, W], of the same shape, dtype and device.

        Random numbers come from `generator` alone.
        """
