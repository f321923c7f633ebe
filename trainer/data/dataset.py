"""A source becomes data to train on: labels checked, parts split off, statistics taken."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from trainer.data.prepare import Prepare, channel_statistics
from trainer.data.source import MapDataset, Samples, Source, labelled
from trainer.data.split import fold_of_each, stratified
from trainer.data.tables.prepare import TablePrepare
from trainer.data.tables.prepare import fit as fit_table
from trainer.data.tasks import Classification, Regression, Task
from trainer.errors import UserError
from trainer.seeds import derive

STATISTICS_FROM, STATISTICS_BYTES = 10_000, 2**28  # images, bytes; the same ones whether resident or streamed
CHUNK_BYTES = 2**23


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

    @property
    def loss_targets(self) -> Tensor:
        return self.samples.loss_targets[self.indices]


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

    def copy(self) -> Data:
        """One that can be changed by itself; samples are shared."""
        return replace(self, splits=dict(self.splits), notes=list(self.notes))

    def fit(self, size: tuple[int, int] | None, channels: int | None = None) -> None:
        """Brings images to the size and the channels that a model needs."""
        assert isinstance(self.prepare, Prepare)
        grey = channels is not None and self.shape[0] == 1
        before, self.prepare = self.prepare, replace(self.prepare, size=size, channels=channels if grey else None)
        if self.prepare == before:
            return
        if note := self.prepare.describe():
            self.notes.append(f"images {note}")

    def normalise(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Takes these statistics, one per channel from 0 to 255, in place of the data's own; floats stay as is."""
        first = self.splits["train"]
        if isinstance(self.prepare, Prepare) and first.samples.take(first.indices[:1]).dtype == torch.uint8:
            self.prepare = replace(self.prepare, mean=mean, std=std)

    def subsample_per_class(self, per_class: int, seed: int) -> None:
        """Keeps at most so many training samples of each class, at random."""
        if isinstance(self.task, Regression):
            raise UserError("data.per_class: the task is a regression; there are no classes.")
        split = self.splits["train"]
        generator = torch.Generator().manual_seed(derive(seed, "per_class"))
        order = torch.randperm(len(split), generator=generator)
        labels = split.targets[order]
        kept = [order[labels == label][:per_class] for label in range(len(self.task.classes))]
        self.splits["train"] = Split(split.samples, split.indices[torch.cat(kept).sort().values])
        self.notes.append(f"at most {per_class} training samples of each class")

    def truncate(self, samples: int, seed: int, *, overfit: bool = False) -> None:
        """Keeps at most so many samples of each part, at random; with `overfit`, validation is the training part."""
        for name, split in self.splits.items():
            generator = torch.Generator().manual_seed(derive(seed, "limit", name))
            chosen = torch.randperm(len(split), generator=generator)[:samples]
            self.splits[name] = Split(split.samples, split.indices[chosen])
        self.notes.append(f"debug: at most {samples} samples of each part")
        if overfit:
            self.splits["valid"] = self.splits["train"]


def load(
    source: Source,
    *,
    valid_fraction: float,
    test_fraction: float,
    seed: int,
    relabel: dict[str, Any] | None = None,
    folds: tuple[int, int] | None = None,
) -> Data:
    """Splits and describes a source.

    Args:
        folds: how many parts the training samples are dealt into, and which of them validates.

    Raises:
        UserError: labels that are no classes, too few samples.
    """
    classes, parts = labelled(source, relabel)
    notes, regression = list(source.notes), source.task == "regression"
    splits = {name: Split(samples, torch.arange(len(samples))) for name, samples in parts.items()}
    if "test" not in splits:
        splits["train"], splits["test"] = _hold_out(splits["train"], test_fraction, seed, "test")
        notes.append(f"no test part: {test_fraction:.0%} of the samples held out for it")
    if folds is not None:
        if "valid" in splits:
            raise UserError("data.folds: the data has a validation part of its own; leave data.folds out.")
        splits["train"], splits["valid"] = _fold(splits["train"], *folds, seed)
        notes.append(f"fold {folds[1]} of {folds[0]} validates")
    elif "valid" not in splits:
        splits["train"], splits["valid"] = _hold_out(splits["train"], valid_fraction, seed, "valid")
    splits = {name: splits[name] for name in ("train", "valid", "test")}
    if any(isinstance(s, MapDataset) and not s.repeatable for s in parts.values()):
        notes.append("samples change from one reading to the next: streamed, and exact to resume only without workers")
    task: Task = _scale(splits["train"]) if regression else Classification(tuple(classes))
    prepare = _statistics(splits["train"], source)
    if source.columns and (note := prepare.describe()):
        notes.append(note)
    return Data(task, splits, prepare, source.fingerprint, notes, source.skipped)


def _scale(train: Split) -> Regression:
    """The training targets' mean and standard deviation: the model learns them scaled."""
    return Regression(float(train.targets.mean()), float(train.targets.std(correction=0)) or 1.0)


def _hold_out(split: Split, fraction: float, seed: int, part: str) -> tuple[Split, Split]:
    key = f"data.{part}_fraction"
    kept, out = stratified(split.targets, fraction, derive(seed, "split", part), key)
    return Split(split.samples, split.indices[kept]), Split(split.samples, split.indices[out])


def _fold(split: Split, folds: int, fold: int, seed: int) -> tuple[Split, Split]:
    out = fold_of_each(split.targets, folds, derive(seed, "folds")) == fold
    return Split(split.samples, split.indices[~out]), Split(split.samples, split.indices[out])


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


def balancing(data: Data) -> Tensor:
    """[training samples], the weights by which every class is drawn equally often.

    Raises:
        UserError: there are no classes.
    """
    if not isinstance(data.task, Classification):
        raise UserError("data.balance=sampler: the task is a regression; there are no classes to balance.")
    targets = data.splits["train"].targets
    return (1 / torch.bincount(targets).double())[targets]
