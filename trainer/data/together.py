"""Batches of runs that train together and have samples of their own: other splits, another order, other draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from trainer.data.batches import Batch, Batches


class BatchesTogether(Batches):
    """The batches of several parts of the same size, side by side: inputs [D, B, ...], targets [D, B]."""

    def __init__(self, parts: Sequence[Batches]) -> None:
        first = parts[0]
        assert all(part.sizes == first.sizes for part in parts)
        self.parts, self.sizes, self.num_samples = list(parts), first.sizes, first.num_samples

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Of the batches `start`, `start` + 1, ... of an epoch."""
        for batches in zip(*(part.epoch(epoch, start) for part in self.parts), strict=True):
            inputs, targets = zip(*batches, strict=True)
            yield torch.stack(inputs), torch.stack(targets)
