"""mixup and cutmix: pairs of samples become one, and so do their targets; seeded, a draw for each pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Mix:
    """Mixes each sample of a batch with another one of it.

    torchvision's own draw once for a batch and from torch's global stream, which a resumed run cannot repeat.

    Args:
        num_classes: C of the targets that come out.
        mixup: alpha of Beta(alpha, alpha), the share of the first sample (Zhang et al. 2018); 0 for none.
        cutmix: likewise, for a rectangle pasted in (Yun et al. 2019). With both, each batch takes one of them.
    """

    num_classes: int
    mixup: float = 0.0
    cutmix: float = 0.0

    def __call__(self, inputs: Tensor, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Inputs [B, ...] and classes [B] or [B, C] to new inputs and class probabilities [B, C]."""
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
        whole = targets if targets.ndim == 2 else F.one_hot(targets, self.num_classes)
        whole = whole.to(inputs.dtype)
        return inputs, whole * share[:, None] + whole[partner] * (1 - share[:, None])

    @staticmethod
    def _paste(inputs: Tensor, partner: Tensor, share: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A rectangle of the partner's in each image, and the share of pixels that stayed the image's own."""
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
