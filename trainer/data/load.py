"""A source becomes data to train on: labels checked, parts split off, statistics taken, brought to the device."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from trainer.data.batches import Augment, Batches, Fetch, Resident, Streamed
from trainer.data.mix import Mix
from trainer.data.prepare import Prepare, channel_statistics
from trainer.data.source import Items, Samples, Source
from trainer.data.split import relabelled, stratified
from trainer.data.table_prepare import TablePrepare
from trainer.data.table_prepare import fit as fit_table
from trainer.errors import UserError
from trainer.seeds import derive
from trainer.tasks import Classification, Regression, Task

STATISTICS_FROM, STATISTICS_BYTES = 10_000, 2**28  # images, bytes; the same ones whether resident or streamed
CHUNK_BYTES = 2**23
PREPARED_SHARE, RAW_SHARE = 0.25, 0.5  # of the device's free memory that the data may take


@dataclass
class Split:
    """A part of the data: which samples of a source's part."""

    samples: Samples
    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def targets(self) -> Tensor:
        return self.samples.targets[self.indices]


@dataclass
class Data:
    """What a run trains on.

    Attributes:
        task: what is asked for, with the names of the classes.
        splits: `train`, `valid` and `test`; no sample is in two.
        prepare: raw samples to model inputs.
        fingerprint: changes when samples, labels or their order do.
        notes: sentences for the header.
        skipped: path, class and reason of files that are left out.
    """

    task: Task
    splits: dict[str, Split]
    prepare: Prepare | TablePrepare
    fingerprint: str
    notes: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one raw sample."""
        return self.prepare.shape

    def fit(self, size: tuple[int, int] | None) -> None:
        """Brings images to the size that a model needs."""
        assert isinstance(self.prepare, Prepare)
        self.prepare = replace(self.prepare, size=size)
        if note := self.prepare.describe():
            self.notes.append(f"images {note}")

    def limit(self, samples: int, seed: int, *, overfit: bool = False) -> None:
        """Keeps at most so many samples of each part, at random; with `overfit`, validation is the training part."""
        for name, split in self.splits.items():
            generator = torch.Generator().manual_seed(derive(seed, "limit", name))
            chosen = torch.randperm(len(split), generator=generator)[:samples]
            self.splits[name] = Split(split.samples, split.indices[chosen])
        self.notes.append(f"debug: at most {samples} samples of each part")
        if overfit:
            self.splits["valid"] = self.splits["train"]


def load(
    source: Source, *, valid_fraction: float, test_fraction: float, seed: int, relabel: dict[str, Any] | None = None
) -> Data:
    """Splits and describes a source.

    Raises:
        UserError: labels that are no classes, too few samples.
    """
    classes, parts = source.classes, source.parts
    fingerprint = blake2b(digest_size=16)
    for name, samples in parts.items():
        fingerprint.update(name.encode() + samples.fingerprint())
    notes = list(source.notes)
    regression = source.task == "regression"
    if not regression:
        _check_labels(classes, parts)
    if relabel and regression:
        raise UserError("data.relabel: the data has no classes to give other names to.")
    if relabel:
        classes, labels = relabelled(classes, relabel)
        for samples in parts.values():
            samples.targets = labels[samples.targets]
    splits = {name: Split(samples, torch.arange(len(samples))) for name, samples in parts.items()}
    if "test" not in splits:
        splits["train"], splits["test"] = _hold_out(splits["train"], test_fraction, seed, "test")
        notes.append(f"no test part: {test_fraction:.0%} of the samples held out for it")
    if "valid" not in splits:
        splits["train"], splits["valid"] = _hold_out(splits["train"], valid_fraction, seed, "valid")
    splits = {name: splits[name] for name in ("train", "valid", "test")}
    if any(isinstance(s, Items) and not s.repeatable for s in parts.values()):
        notes.append("samples change from one reading to the next: streamed, and exact to resume only without workers")
    task: Task = _scale(splits["train"]) if regression else Classification(tuple(classes))
    prepare = _statistics(splits["train"], source)
    if source.columns and (note := prepare.describe()):
        notes.append(note)
    return Data(task, splits, prepare, fingerprint.hexdigest(), notes, source.skipped)


def _scale(train: Split) -> Regression:
    """The training targets' mean and standard deviation: the model learns them scaled."""
    return Regression(float(train.targets.mean()), float(train.targets.std(correction=0)) or 1.0)


def _check_labels(classes: tuple[str, ...], parts: dict[str, Samples]) -> None:
    for name, samples in parts.items():
        low, high = int(samples.targets.min()), int(samples.targets.max())
        if low < 0 or high >= len(classes):
            wrong = low if low < 0 else high
            raise UserError(f"data: a label of the {name} part is {wrong}; expected 0 to {len(classes) - 1}.")
    if len(classes) < 2:
        raise UserError(f"data: {len(classes)} class; expected two or more.")


def _hold_out(split: Split, fraction: float, seed: int, part: str) -> tuple[Split, Split]:
    key = f"data.{part}_fraction"
    kept, out = stratified(split.targets, fraction, derive(seed, "split", part), key)
    return Split(split.samples, split.indices[kept]), Split(split.samples, split.indices[out])


def _statistics(train: Split, source: Source) -> Prepare | TablePrepare:
    if source.columns:
        return fit_table(source.columns, train.samples.take(train.indices), source.missing)
    first = train.samples.take(train.indices[:1])
    count = min(len(train), STATISTICS_FROM, max(1, STATISTICS_BYTES // max(1, first.nbytes)))
    spread = torch.linspace(0, len(train) - 1, count).long()
    shape = tuple(first.shape[1:])
    if first.dtype == torch.uint8:
        chunks = train.indices[spread].split(max(1, CHUNK_BYTES // max(1, first.nbytes)))
        return Prepare(shape, *channel_statistics(map(train.samples.take, chunks)))
    train.samples.take(train.indices[spread])  # refuses samples of different shapes
    return Prepare(shape, (0.0,) * shape[0], (1.0,) * shape[0])


@dataclass(frozen=True)
class Loading:
    """How samples reach the device.

    Attributes:
        free_memory: bytes free on the device.
        resident: `auto`, `true` or `false`.
        workers: processes of a streamed part.
    """

    device: torch.device
    dtype: torch.dtype
    free_memory: int
    resident: str = "auto"
    workers: int = 0


def batches(
    data: Data,
    part: str,
    batch_size: int,
    loading: Loading,
    *,
    seed: int | None = None,
    drop_last: bool = False,
    augment: Augment | None = None,
    balanced: bool = False,
    mix: Mix | None = None,
) -> Batches:
    """The batches of a part, resident or streamed as `loading` says.

    Args:
        balanced: every class is drawn equally often.

    Raises:
        UserError: `balanced`, and there are no classes.
    """
    split = data.splits[part]
    fetch = _fetch(data, split, loading)
    weights = None
    if balanced:
        if not isinstance(data.task, Classification):
            raise UserError("data.balance=sampler: the task is a regression; there are no classes to balance.")
        weights = (1 / torch.bincount(split.targets).double())[split.targets]
    return Batches(
        fetch,
        len(split),
        batch_size,
        loading.device,
        seed=seed,
        drop_last=drop_last,
        augment=augment,
        weights=weights,
        mix=mix,
    )


def _fetch(data: Data, split: Split, loading: Loading) -> Fetch:
    everything = sum(map(len, data.splits.values()))
    prepared = everything * torch.Size(data.prepare.output_shape).numel() * loading.dtype.itemsize
    raw = everything * torch.Size(data.shape).numel() * split.samples.take(split.indices[:1]).element_size()
    fits = raw <= RAW_SHARE * loading.free_memory
    if split.samples.repeatable and (loading.resident == "true" or (loading.resident == "auto" and fits)):
        keep = prepared <= PREPARED_SHARE * loading.free_memory
        return Resident(split.samples, split.indices, data.prepare, loading.device, loading.dtype, prepared=keep)
    workers = loading.workers if split.samples.repeatable else 0
    return Streamed(split.samples, split.indices, data.prepare, loading.device, loading.dtype, workers=workers)
