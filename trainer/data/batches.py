"""Batches of one part of the data on the device: resident (an index into a tensor) or streamed; the same either way."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from trainer.data.augment.mix import Mix
from trainer.data.prepare import Prepare
from trainer.data.source import Samples
from trainer.data.tables.prepare import TablePrepare
from trainer.errors import UserError
from trainer.seeds import derive

Batch = tuple[Tensor, Tensor]
Positions = Tensor | slice  # a slice is a view, where an index is a copy
CHUNK_ELEMENTS = 2**25  # prepared at a time
Augment = Callable[[Tensor, Generator], Tensor]


class Fetch(Protocol):
    """Gives the prepared inputs and targets, on the device, of batches of positions in the part."""

    def __call__(self, batches: Sequence[Positions]) -> Iterable[Batch]: ...


class Tensors:
    """Inputs and targets on the device; a batch is an index.

    Attributes:
        prepare: applied to the inputs of each batch; None where they are ready.
    """

    inputs: Tensor
    targets: Tensor
    prepare: Callable[[Tensor], Tensor] | None = None

    def __call__(self, batches: Sequence[Positions]) -> Iterator[Batch]:
        for positions in batches:
            if isinstance(positions, slice):
                inputs, targets = self.inputs[positions], self.targets[positions]
            else:
                positions = positions.to(self.inputs.device)
                inputs, targets = _rows(self.inputs, positions), self.targets[positions]
            yield (self.prepare(inputs) if self.prepare else inputs), targets


class ResidentFetch(Tensors):
    """A part as tensors on the device; prepared once and for all if `prepared`, else a batch at a time."""

    def __init__(
        self,
        samples: Samples,
        indices: Tensor,
        prepare: Prepare | TablePrepare,
        device: torch.device,
        dtype: torch.dtype,
        *,
        prepared: bool,
    ) -> None:
        self.targets = targets_on(samples.loss_targets[indices], device)
        self.prepare = None if prepared else (lambda raw: prepare(raw, dtype))
        if prepared:
            self.inputs = torch.empty((len(indices), *prepare.output_shape), dtype=dtype, device=device)
            if self.inputs.ndim == 4:
                self.inputs = self.inputs.to(memory_format=torch.channels_last)
            few = max(1, min(2048, CHUNK_ELEMENTS // max(1, self.inputs[0].numel())))
            for part, chunk in zip(self.inputs.split(few), indices.split(few), strict=True):
                part.copy_(prepare(samples.take(chunk).to(device), dtype))
        else:
            self.inputs = samples.take(indices).to(device)


def _rows(inputs: Tensor, positions: Tensor) -> Tensor:
    """inputs[positions]; for images stored channels_last the result is so too, and whole rows are copied."""
    if inputs.ndim == 4 and inputs.is_contiguous(memory_format=torch.channels_last):
        return inputs.permute(0, 2, 3, 1).index_select(0, positions).permute(0, 3, 1, 2)
    return inputs.index_select(0, positions)


def targets_on(targets: Tensor, device: torch.device, *, non_blocking: bool = False) -> Tensor:
    """Targets on the device; Apple's GPUs have no float64."""
    if device.type == "mps" and targets.dtype == torch.float64:
        targets = targets.float()
    return targets.to(device, non_blocking=non_blocking)


class StreamedFetch:
    """A part that is read and decoded batch by batch, by worker processes if there are any."""

    def __init__(
        self,
        samples: Samples,
        indices: Tensor,
        prepare: Prepare | TablePrepare,
        device: torch.device,
        dtype: torch.dtype,
        *,
        workers: int,
    ) -> None:
        self.indices, self.prepare, self.device, self.dtype = indices, prepare, device, dtype
        self.pin = device.type == "cuda"
        self.order = _Order()
        # On a CPU the workers prepare too: threads of this process would wait for cores that the workers have.
        self.in_workers = workers > 0 and device.type == "cpu"
        finish = partial(_prepared, prepare=prepare, dtype=dtype) if self.in_workers else None
        self.loader = DataLoader(
            _Guarded(samples, finish),
            batch_sampler=self.order,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=self.pin,
            persistent_workers=workers > 0,
            worker_init_fn=_ignore_signals,
            generator=torch.Generator(),
        )

    def __call__(self, batches: Sequence[Positions]) -> Iterator[Batch]:
        self.order.batches = [self.indices[positions].tolist() for positions in batches]
        try:
            for batch in self.loader:
                if isinstance(batch, UserError):
                    raise batch
                yield self._ready(*batch)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the worker processes; the next pass starts new ones.

        torch has no public way, and at exit it would wait for ever for workers that ignore SIGTERM.
        """
        iterator, self.loader._iterator = self.loader._iterator, None
        if isinstance(iterator, _MultiProcessingDataLoaderIter):
            iterator._shutdown_workers()

    def _ready(self, inputs: Tensor, targets: Tensor) -> Batch:
        inputs = inputs.to(self.device, non_blocking=self.pin)
        inputs = inputs if self.in_workers else _prepared(inputs, self.prepare, self.dtype)
        return inputs, targets_on(targets, self.device, non_blocking=self.pin)


def _prepared(raw: Tensor, prepare: Prepare | TablePrepare, dtype: torch.dtype) -> Tensor:
    """A raw batch as the model takes it; images channels_last, reordered while they are still bytes."""
    if raw.ndim == 4:
        raw = raw.contiguous(memory_format=torch.channels_last)
    inputs = prepare(raw, dtype)
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs


class _Guarded(Dataset):
    """Samples whose mistakes travel as values: torch would wrap what a worker raises into a traceback in a text."""

    def __init__(self, samples: Samples, finish: Callable[[Tensor], Tensor] | None) -> None:
        self.samples, self.finish = samples, finish

    def __getitems__(self, indices: list[int]) -> Batch | UserError:
        try:
            inputs, targets = self.samples.__getitems__(indices)
            return (self.finish(inputs) if self.finish else inputs), targets
        except UserError as error:
            return error


class _Order:
    """A batch sampler whose batches are set before each pass; skipping ahead is leaving some out."""

    batches: list[list[int]]

    def __init__(self) -> None:
        self.batches = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _as_it_is(batch: Any) -> Batch:
    return batch


def _ignore_signals(worker: int) -> None:
    # The main process decides when to stop; a worker that dies of Ctrl-C would take the last checkpoint with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@dataclass(frozen=True)
class TrainSampling:
    """How a training part is drawn.

    Attributes:
        seed: of order, augmentation and mixing.
        drop_last: leave out a last batch that is not full.
        augment: applied to the inputs of each batch.
        weights: [num_samples], how often each sample is drawn, with replacement; None takes each once.
        mix: makes one sample of two, and targets of class probabilities.
    """

    seed: int
    drop_last: bool = False
    augment: Augment | None = None
    weights: Tensor | None = None
    mix: Mix | None = None


class Batches:
    """The batches of a part, epoch by epoch.

    Args:
        fetch: where the samples come from.
        num_samples: samples of the part.
        batch_size: samples per batch. A last batch of a single sample joins the one before: BatchNorm needs two.
        draw: None keeps the part's order and the samples as they are.
    """

    def __init__(
        self, fetch: Fetch, num_samples: int, batch_size: int, device: torch.device, draw: TrainSampling | None = None
    ) -> None:
        self.fetch, self.num_samples, self.batch_size, self.draw = fetch, num_samples, batch_size, draw
        drop_last = draw is not None and draw.drop_last
        self.device, self.generator = device, Generator(device)
        full, rest = divmod(num_samples, batch_size)
        self.sizes = [batch_size] * full
        if rest == 1 and full:
            self.sizes[-1] += 1
        elif rest and not (drop_last and full):
            self.sizes.append(rest)
        if drop_last and full:
            self.sizes = [batch_size] * full

    def __len__(self) -> int:
        return len(self.sizes)

    def order(self, epoch: int) -> list[Positions]:
        """Positions of each batch of an epoch."""
        if self.draw is None:
            ends = list(itertools.accumulate(self.sizes))
            return [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]
        generator = Generator().manual_seed(derive(self.draw.seed, "order", epoch))
        if self.draw.weights is None:
            positions = torch.randperm(self.num_samples, generator=generator)
        else:
            positions = torch.multinomial(self.draw.weights, self.num_samples, replacement=True, generator=generator)
        return list(positions[: sum(self.sizes)].split(self.sizes))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """(inputs, targets) of the batches `start`, `start` + 1, ... of an epoch."""
        draw = self.draw
        for number, (inputs, targets) in enumerate(self.fetch(self.order(epoch)[start:]), start):
            if draw is not None and draw.augment is not None:
                self.generator.manual_seed(derive(draw.seed, "augment", epoch, number))
                inputs = draw.augment(inputs, self.generator)
            if draw is not None and draw.mix is not None:
                inputs, targets = draw.mix(inputs, targets, derive(draw.seed, "mix", epoch, number))
            yield inputs, targets


class StackedBatches(Batches):
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
