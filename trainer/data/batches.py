"""The batches of a split, epoch by epoch: order, augmentation and mixing are functions of (seed, epoch, batch).

Shape letters: N samples of a split, B samples of a batch, C classes, D splits side by side.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from trainer.data.augment.mix import Mix
from trainer.data.fetch import Batch, Fetch, Positions
from trainer.data.streams import seeded_streams
from trainer.seeds import derive

Augment = Callable[[Tensor, Generator], Tensor]


@dataclass(frozen=True)
class TrainSampling:
    """The order and the random variation of training samples.

    Attributes:
        seed: seed of order, augmentation and mixing.
        drop_last: leave out a last batch that is not full.
        augment: applied to the inputs of each batch.
        streams: whether `augment` may draw from the global random streams, as a user's own may.
        weights: [N], relative frequency of drawing each sample, with replacement; None draws each once.
        mix: mixup or cutmix, which turns targets into class probabilities [B, C].
    """

    seed: int
    drop_last: bool = False
    augment: Augment | None = None
    streams: bool = False
    weights: Tensor | None = None
    mix: Mix | None = None


class Batches:
    """The batches of a split.

    Args:
        fetch: provides the samples.
        num_samples: samples of the split.
        batch_size: samples per batch. A last batch of a single sample joins the one before: BatchNorm needs two.
        sampling: None keeps the order of the split and does not augment.

    Attributes:
        sizes: number of samples of each batch.
    """

    def __init__(
        self,
        fetch: Fetch,
        num_samples: int,
        batch_size: int,
        device: torch.device,
        sampling: TrainSampling | None = None,
    ) -> None:
        self.fetch, self.num_samples, self.batch_size, self.sampling = fetch, num_samples, batch_size, sampling
        self.device, self.generator = device, Generator(device)
        drop_last = sampling is not None and sampling.drop_last
        full, rest = divmod(num_samples, batch_size)
        self.sizes = [batch_size] * full
        if drop_last and full:
            return
        if rest == 1 and full:
            self.sizes[-1] += 1
        elif rest:
            self.sizes.append(rest)

    def __len__(self) -> int:
        return len(self.sizes)

    def order(self, epoch: int) -> list[Positions]:
        """Return the positions in the split of the samples of each batch of an epoch."""
        if self.sampling is None:
            ends = list(itertools.accumulate(self.sizes))
            return [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]
        generator = Generator().manual_seed(derive(self.sampling.seed, "order", epoch))
        weights = self.sampling.weights
        if weights is None:
            positions = torch.randperm(self.num_samples, generator=generator)
        else:
            positions = torch.multinomial(weights, self.num_samples, replacement=True, generator=generator)
        return list(positions[: sum(self.sizes)].split(self.sizes))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield (inputs, targets) of an epoch, from batch number `start` on."""
        sampling = self.sampling
        seeds = None if sampling is None else (derive(sampling.seed, "draw", epoch, i) for i in itertools.count(start))
        for number, (inputs, targets) in enumerate(self.fetch(self.order(epoch)[start:], seeds), start):
            if sampling is not None and sampling.augment is not None:
                seed = derive(sampling.seed, "augment", epoch, number)
                self.generator.manual_seed(seed)
                with seeded_streams(seed, self.device) if sampling.streams else nullcontext():
                    inputs = sampling.augment(inputs, self.generator)
            if sampling is not None and sampling.mix is not None:
                inputs, targets = sampling.mix(inputs, targets, derive(sampling.seed, "mix", epoch, number))
            yield inputs, targets


class StackedBatches(Batches):
    """The batches of D splits of the same size, side by side: inputs [D, B, ...], targets [D, B]."""

    def __init__(self, members: Sequence[Batches]) -> None:
        first = members[0]
        assert all(member.sizes == first.sizes for member in members)
        self.members, self.sizes, self.num_samples = list(members), first.sizes, first.num_samples
        self.device = first.device

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield (inputs, targets) of an epoch, from batch number `start` on."""
        for batches in zip(*(member.epoch(epoch, start) for member in self.members), strict=True):
            inputs, targets = zip(*batches, strict=True)
            yield torch.stack(inputs), torch.stack(targets)
