"""mixup and cutmix: pairs of samples and their targets are mixed, with a seeded draw for each pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Mix:
    """Mixing of each sample of a batch with another one of the batch.

    torchvision's transforms draw once per batch and from torch's global generator, which a resumed run cannot repeat.

    Args:
        num_classes: C of the targets.
        mixup: alpha of Beta(alpha, alpha), from which the share of the first sample is drawn (Zhang et al. 2018); 0
            turns it off.
        cutmix: the same for a pasted rectangle (Yun et al. 2019). With both, one of them is drawn for each batch.
    """

    num_classes: int
    mixup: float = 0.0
    cutmix: float = 0.0

    def __call__(self, inputs: Tensor, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return mixed inputs [B, ...] and class probabilities [B, C] for inputs [B, ...] and classes [B] or [B, C]."""
        random = np.random.default_rng(seed)
        cut = self.cutmix > 0 and (self.mixup == 0 or random.random() < 0.5)
        alpha = self.cutmix if cut else self.mixup
        partner = torch.from_numpy(random.permutation(len(targets))).to(inputs.device)
        share = torch.from_numpy(random.beta(alpha, alpha, len(targets))).to(inputs.device, inputs.dtype)
        if cut:
            inputs, share = self._paste(inputs, partner, share, random)
        else:
            first = share.view(-1, *[1] * (inputs.ndim - 1))
            inputs = inputs * first + inputs[partner] * (1 - first)
        probabilities = targets if targets.ndim == 2 else F.one_hot(targets, self.num_classes)
        probabilities = probabilities.to(inputs.dtype)
        return inputs, probabilities * share[:, None] + probabilities[partner] * (1 - share[:, None])

    @staticmethod
    def _paste(inputs: Tensor, partner: Tensor, share: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Paste a rectangle of its partner into each image; return the images and the share [B] of their own pixels."""
        height, width = inputs.shape[-2:]
        side = (1 - share).sqrt()
        places = torch.from_numpy(random.random((2, len(share)))).to(inputs.device, inputs.dtype)
        masks = []
        for length, place in ((height, places[0]), (width, places[1])):
            size = (side * length).round()
            start = (place * (length - size)).round()
            at = torch.arange(length, device=inputs.device)
            masks.append((at >= start[:, None]) & (at < (start + size)[:, None]))
        inside = masks[0][:, :, None] & masks[1][:, None, :]
        mixed = torch.where(inside[:, None], inputs[partner], inputs)
        return mixed, 1 - inside.flatten(1).to(inputs.dtype).mean(1)
