"""Prepared samples on the device: resident (an index into a tensor) or streamed; both give the same numbers.

Shape letters: N samples of a split, B samples of a batch.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from trainer import signals
from trainer.data.dataset import Split
from trainer.data.prepare import Prepare
from trainer.data.samples import Samples
from trainer.data.tables.prepare import TablePrepare
from trainer.device import exact_dtype, traits
from trainer.errors import DataFailed, UserError, out_of_memory, raised_at
from trainer.processes import describe_exit

Batch = tuple[Tensor, Tensor]  # inputs [B, ...] and targets [B] or [B, C]
Positions = Tensor | slice  # of samples in a split; a slice gives a view, an index a copy
BatchRequest = tuple[list[int], int | None]  # of a worker: indices of samples, and the seed to draw them with
GRACE_SECONDS = 10.0  # for a worker that is ending when its connection breaks
CHUNK_ELEMENTS = 2**25  # input elements that are prepared at a time


class Fetch(Protocol):
    """Interface of a provider of prepared batches of a split on the device."""

    def __call__(self, batches: Sequence[Positions], seeds: Iterable[int] | None = None) -> Iterable[Batch]:
        """Yield inputs and targets for each batch of positions in the split.

        Args:
            batches: the positions of each batch.
            seeds: of the random numbers that a user's data set draws for each batch of an epoch of training; None
                for any other reading, which draws the same numbers each time.
        """


class Tensors:
    """A split that is on the device already; a batch is an index.

    Attributes:
        inputs: [N, ...].
        targets: [N] or [N, C].
        prepare: applied to the inputs of each batch; None if `inputs` are prepared.
    """

    inputs: Tensor
    targets: Tensor
    prepare: Callable[[Tensor], Tensor] | None = None

    def __call__(self, batches: Sequence[Positions], seeds: Iterable[int] | None = None) -> Iterator[Batch]:
        for positions in batches:
            if isinstance(positions, slice):
                inputs, targets = self.inputs[positions], self.targets[positions]
            else:
                positions = positions.to(self.inputs.device)
                inputs, targets = _select(self.inputs, positions), self.targets.index_select(0, positions)
            yield (self.prepare(inputs) if self.prepare else inputs), targets


@dataclass(frozen=True)
class InputForm:
    """What raw samples become: prepared inputs of a dtype on a device."""

    prepare: Prepare | TablePrepare
    device: torch.device
    dtype: torch.dtype


class ResidentFetch(Tensors):
    """A split that is loaded to the device once.

    Args:
        prepared: prepare all inputs now, which takes more memory, instead of batch by batch.
    """

    def __init__(self, split: Split, form: InputForm, *, prepared: bool) -> None:
        samples, indices, prepare, device, dtype = split.samples, split.indices, form.prepare, form.device, form.dtype
        self.targets = targets_on(split.loss_targets, device)
        self.prepare = None if prepared else (lambda raw: prepare(raw, dtype))
        if not prepared:
            self.inputs = samples.take(indices).to(device)
            return
        self.inputs = torch.empty((len(indices), *prepare.output_shape), dtype=dtype, device=device)
        if self.inputs.ndim == 4:
            self.inputs = self.inputs.to(memory_format=torch.channels_last)
        chunk_size = max(1, min(2048, CHUNK_ELEMENTS // max(1, self.inputs[0].numel())))
        for inputs, chunk in zip(self.inputs.split(chunk_size), indices.split(chunk_size), strict=True):
            inputs.copy_(prepare(samples.take(chunk).to(device), dtype))


def _select(inputs: Tensor, positions: Tensor) -> Tensor:
    """Return inputs[positions]; channels_last images stay so, and are copied by whole rows, which is faster."""
    if inputs.ndim == 4 and inputs.is_contiguous(memory_format=torch.channels_last):
        return inputs.permute(0, 2, 3, 1).index_select(0, positions).permute(0, 3, 1, 2)
    return inputs.index_select(0, positions)


def targets_on(targets: Tensor, device: torch.device, *, non_blocking: bool = False) -> Tensor:
    """Move targets [B] or [B, C] to the device; float64 becomes float32 on a device without it."""
    if targets.dtype == torch.float64:
        targets = targets.to(exact_dtype(device))
    return targets.to(device, non_blocking=non_blocking)


class StreamedFetch:
    """A split that is read and decoded batch by batch, in this process or by worker processes.

    Args:
        workers: number of worker processes.
    """

    def __init__(self, split: Split, form: InputForm, *, workers: int) -> None:
        self.indices, self.form = split.indices, form
        self.pin = traits(form.device).pin_memory
        self.batches: list[BatchRequest] = []  # the DataLoader's batch sampler: set before each pass
        # On a CPU the workers prepare too: threads of this process would compete with them for the cores.
        self.in_workers = workers > 0 and form.device.type == "cpu"
        self.loader = DataLoader(
            _WorkerDataset(split.samples, partial(_prepare_batch, form=form) if self.in_workers else None),
            batch_sampler=cast(Any, self.batches),
            num_workers=workers,
            collate_fn=_identity,
            pin_memory=self.pin,
            persistent_workers=workers > 0,
            worker_init_fn=_ignore_signals,
            generator=torch.Generator(),
        )

    def __call__(self, batches: Sequence[Positions], seeds: Iterable[int] | None = None) -> Iterator[Batch]:
        indices = (self.indices[positions].tolist() for positions in batches)
        self.batches[:] = zip(indices, itertools.repeat(None) if seeds is None else seeds, strict=False)
        try:
            for batch in self._load():
                if isinstance(batch, UserError | DataFailed):
                    raise batch
                yield self._ready(*batch)
        except BaseException:
            self.close()
            raise

    def _load(self) -> Iterator[Any]:
        """Yield what the loader yields.

        Raises:
            DataFailed: a worker process has ended.
        """
        handler = signal.getsignal(signal.SIGCHLD)
        self._check_workers()
        batches = None
        while True:
            try:
                if batches is None:
                    batches = iter(self.loader)
                    if signal.getsignal(signal.SIGCHLD) is not handler:
                        # torch's handler raises wherever this process is when a worker dies, even inside a step.
                        signal.signal(signal.SIGCHLD, handler)
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError):  # also for a connection that a dying worker breaks
                self._check_workers(GRACE_SECONDS)
                raise
            yield batch
            self._check_workers()

    def _check_workers(self, seconds: float = 0.0) -> None:
        """Raise DataFailed if a worker has ended, or ends within this time."""
        iterator = self.loader._iterator
        workers = iterator._workers if isinstance(iterator, _MultiProcessingDataLoaderIter) else []
        ending = connection.wait([worker.sentinel for worker in workers], seconds) if seconds and workers else []
        for worker in workers:
            if worker.sentinel in ending:
                worker.join()
            if worker.exitcode is not None:
                advice = "Try again with data.workers=0, or with a smaller batch_size."
                raise DataFailed(f"a data worker ended early: {describe_exit(worker.exitcode)}. {advice}")

    def close(self) -> None:
        """Stop the worker processes; the next pass starts new ones.

        torch has no public method for it, and would wait at exit for workers that ignore SIGTERM.
        """
        iterator, self.loader._iterator = self.loader._iterator, None
        if isinstance(iterator, _MultiProcessingDataLoaderIter):
            iterator._shutdown_workers()

    def _ready(self, inputs: Tensor, targets: Tensor) -> Batch:
        inputs = inputs.to(self.form.device, non_blocking=self.pin)
        inputs = inputs if self.in_workers else _prepare_batch(inputs, self.form)
        return inputs, targets_on(targets, self.form.device, non_blocking=self.pin)


def _prepare_batch(raw: Tensor, form: InputForm) -> Tensor:
    """Prepare a raw batch; images become channels_last while they are still bytes, a quarter of the memory to move."""
    if raw.ndim == 4:
        raw = raw.contiguous(memory_format=torch.channels_last)
    inputs = form.prepare(raw, form.dtype)
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs


class _WorkerDataset(Dataset):
    """Samples for a DataLoader; a worker returns exceptions, because torch turns what it raises into text."""

    def __init__(self, samples: Samples, finish: Callable[[Tensor], Tensor] | None) -> None:
        self.samples, self.finish = samples, finish

    def __getitems__(self, request: BatchRequest) -> Batch | UserError | DataFailed:
        indices, seed = request
        try:
            chosen = torch.tensor(indices)
            inputs = self.samples.take(chosen) if seed is None else self.samples.draw(chosen, seed)
            return (self.finish(inputs) if self.finish else inputs), self.samples.loss_targets[indices]
        except UserError as error:
            return error
        except Exception as error:
            if get_worker_info() is None:
                raise
            advice = "data.workers=0 reads the data without workers, and shows the traceback."
            return DataFailed(out_of_memory(error) or f"a data worker failed: {raised_at(error)}. {advice}")


def _identity(batch: Any) -> Any:
    return batch


def _ignore_signals(worker: int) -> None:
    # The main process decides when to stop; if a worker died of Ctrl-C, the last checkpoint could not be written.
    signals.ignore()
