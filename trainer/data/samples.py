"""Raw samples of a split, before they are prepared.

Shape letters: N samples, B samples of a batch, C classes, K columns of a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor


class Samples:
    """Raw samples of a split, in a fixed order.

    Attributes:
        targets: int64 [N], the class of each sample; float64 [N] or [N, K] for a regression; int64 [N, K], 0 or 1, for
            K labels.
        probabilities: [N, C] if targets are class probabilities; `targets` then holds the most probable class.
        repeatable: whether reading a sample twice gives the same, as long as the same random numbers are drawn.
        fixed: whether it gives the same whatever is drawn; if not, samples are streamed and never kept.
        row_numbers: int64 [N], ascending, places in the user's data from 0; None if all of it is there in order.
        file_names: of the samples, relative to the data's folder; None if they are not files.
    """

    targets: Tensor
    probabilities: Tensor | None = None
    row_numbers: Tensor | None = None
    file_names: Sequence[str] | None = None
    repeatable = True
    fixed = True

    @property
    def loss_targets(self) -> Tensor:
        """The targets that the loss takes: `probabilities` if there are any."""
        return self.targets if self.probabilities is None else self.probabilities

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: Tensor) -> Tensor:
        """Return the raw inputs [B, ...] of the samples int64 [B]."""
        raise NotImplementedError

    def draw(self, indices: Tensor, seed: int) -> Tensor:
        """Return the raw inputs [B, ...] of a training batch; a user's data set may vary them at random.

        The random numbers of each sample are a function of `seed` and its place in the batch. May mutate the global
        random streams.
        """
        return self.take(indices)

    def fingerprint(self) -> bytes:
        """Return a digest that changes when samples, labels or their order do."""
        raise NotImplementedError


class Arrays(Samples):
    """Samples in memory: images uint8 [N, C, H, W] or rows of a table float64 [N, K], with targets."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs = inputs
        self.targets = targets if targets.is_floating_point() else targets.long()

    def take(self, indices: Tensor) -> Tensor:
        return self.inputs[indices]

    def fingerprint(self) -> bytes:
        digest = blake2b(str((tuple(self.inputs.shape), self.inputs.dtype)).encode(), digest_size=16)
        for tensor in (self.inputs, self.targets):
            digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.digest()
