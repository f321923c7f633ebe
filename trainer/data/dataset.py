"""A data set ready for training: labels checked, missing splits held out, statistics computed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import torch
from torch import Tensor

from trainer.data.division import Splitting, divide
from trainer.data.labels import relabel as relabel_source
from trainer.data.prepare import Prepare, channel_statistics, float_statistics
from trainer.data.samples import Samples
from trainer.data.source import Source
from trainer.data.split import SPLITS
from trainer.data.tables.prepare import TablePrepare
from trainer.data.tables.prepare import fit as fit_table
from trainer.data.tasks import NO_CLASSES, Classification, Task, task_of
from trainer.errors import Problem, UserError, check_names, first_few
from trainer.seeds import derive

# Statistics are computed from at most this many images and bytes, whether the data is resident or not.
STATISTICS_IMAGES, STATISTICS_BYTES = 10_000, 2**28
CHUNK_BYTES = 2**23
MAX_TARGET = 1e100  # squared errors are finite even if the model is off by 1e38 standard deviations


@dataclass
class Split:
    """Training, validation or test samples: those of a source at `indices`, int64 [N].

    Attributes:
        first: samples in the source's splits before these.
    """

    samples: Samples
    indices: Tensor
    first: int = 0

    def __len__(self) -> int:
        return len(self.indices)

    def select(self, positions: Tensor) -> Split:
        """Return the samples at these positions, an index or a mask."""
        return replace(self, indices=self.indices[positions])

    @property
    def rows(self) -> Tensor:
        """Places in the user's data, int64 [N], counted from 0."""
        numbers = self.samples.row_numbers
        return self.first + self.indices if numbers is None else numbers[self.indices]

    @property
    def files(self) -> list[str] | None:
        """The names of the samples' files; None if they are not files."""
        names = self.samples.file_names
        return None if names is None else [names[i] for i in self.indices.tolist()]

    @property
    def targets(self) -> Tensor:
        """Classes int64 [N], numbers float64 [N] or [N, K], or labels int64 [N, K]."""
        return self.samples.targets[self.indices]

    @property
    def loss_targets(self) -> Tensor:
        """The targets, or class probabilities [N, C], that the loss takes."""
        return self.samples.loss_targets[self.indices]


@dataclass
class Data:
    """The data of a run.

    Attributes:
        splits: `train`, `valid` and, unless its samples are unlabelled, `test`, without overlap.
        fingerprint: changes when samples, labels or their order do.
        notes: sentences for the header.
        skipped: path, class and reason of files that cannot be used and are left out.
        unlabelled: see `Source`.
    """

    task: Task
    splits: dict[str, Split]
    prepare: Prepare | TablePrepare
    fingerprint: str
    notes: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    unlabelled: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a raw sample."""
        return self.prepare.shape

    def copy(self) -> Data:
        """Return a copy that can be changed independently; samples are shared."""
        return replace(self, splits=dict(self.splits), notes=list(self.notes))

    @property
    def splits_digest(self) -> str:
        """Digest that changes when a sample is in another split."""
        digest = blake2b(digest_size=16)
        for name, split in self.splits.items():
            digest.update(name.encode() + split.indices.numpy().tobytes())
        return digest.hexdigest()

    def fit(self, size: tuple[int, int] | None, channels: int | None = None) -> None:
        """Prepare images for a model that takes this height and width, and this number of channels if they are grey."""
        assert isinstance(self.prepare, Prepare)
        grey = channels is not None and self.shape[0] == 1
        before, self.prepare = self.prepare, replace(self.prepare, size=size, channels=channels if grey else None)
        if self.prepare != before and (note := self.prepare.describe()):
            self.notes.append(f"images {note}")

    def normalise(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Normalise bytes by these statistics per channel, from 0 to 255, not by the data's own; floats stay as is."""
        if isinstance(self.prepare, Prepare) and self.has_bytes:
            self.prepare = replace(self.prepare, mean=mean, std=std)

    @property
    def has_bytes(self) -> bool:
        """Whether raw samples are bytes, from 0 to 255."""
        train = self.splits["train"]
        return train.samples.take(train.indices[:1]).dtype == torch.uint8

    def subsample_per_class(self, per_class: int, seed: int) -> None:
        """Keep at most `per_class` training samples of each class, at random.

        Raises:
            UserError: a sample does not belong to a class.
        """
        if not isinstance(self.task, Classification):
            raise UserError(Problem("data.per_class", f"{NO_CLASSES[self.task.name]}; there are no classes"))
        split = self.splits["train"]
        generator = torch.Generator().manual_seed(derive(seed, "per_class"))
        order = torch.randperm(len(split), generator=generator)
        labels = split.targets[order]
        kept = [order[labels == label][:per_class] for label in range(len(self.task.classes))]
        self.splits["train"] = split.select(torch.cat(kept).sort().values)
        self.notes.append(f"at most {per_class} training samples of each class")

    def truncate(self, samples: int, seed: int, *, overfit: bool = False) -> None:
        """Keep at most `samples` samples of each split, at random; with `overfit`, validate on the training samples."""
        for name, split in self.splits.items():
            generator = torch.Generator().manual_seed(derive(seed, "limit", name))
            self.splits[name] = split.select(torch.randperm(len(split), generator=generator)[:samples])
        self.notes.append(f"debug: at most {samples} samples of each split")
        if overfit:
            self.splits["valid"] = self.splits["train"]


def load(
    source: Source,
    *,
    valid_fraction: float,
    test_fraction: float,
    seed: int,
    relabel: Mapping[str, object] | None = None,
    folds: tuple[int, int] | None = None,
) -> Data:
    """Split a source, describe its task and fit its preprocessing to the training samples.

    Args:
        source: it is not changed.
        valid_fraction: share of the samples that is held out if the source has no validation split.
        test_fraction: the same for the test split.
        seed: of the choice of these samples.
        relabel: see `labels.merge_classes`.
        folds: number of folds for cross-validation, and the fold that validates.

    Raises:
        UserError: labels that are not class indices, or too few samples.
    """
    check_names("data", "column", (column.name for column in source.columns), check="unusable columns")
    classes, samples = relabel_source(source, relabel)
    if source.task == "regression":
        _check_numbers(samples)
    splitting = Splitting(valid_fraction, test_fraction, seed, folds)
    own = samples.keys() - {"train"} | ({"test"} if source.unlabelled else set())
    parts, notes = divide(samples["train"].targets, own, splitting, source.division)
    starts = itertools.accumulate(map(len, samples.values()), initial=0)
    splits = {
        name: Split(each, torch.arange(len(each)), first)
        for (name, each), first in zip(samples.items(), starts, strict=False)
    }
    splits |= {name: splits["train"].select(indices) for name, indices in parts.items()}
    notes = [*source.notes, *notes]
    splits = {name: splits[name] for name in SPLITS if name in splits}
    if not all(each.repeatable for each in samples.values()):
        notes.append("samples change from one reading to the next, and not by the seed: streamed, without workers")
    elif not all(each.fixed for each in samples.values()):
        notes.append("samples draw random numbers, new ones in each epoch: streamed")
    task = task_of(source.task, tuple(classes), source.targets, splits["train"].targets)
    notes += _absent(classes, splits["train"])
    prepare = _fit_prepare(splits["train"], source)
    if source.columns and (note := prepare.describe()):
        notes.append(note)
    return Data(task, splits, prepare, source.fingerprint, notes, source.skipped, source.unlabelled)


def _check_numbers(splits: Mapping[str, Samples]) -> None:
    """Refuse targets of a regression whose squares are not finite."""
    for name, samples in splits.items():
        wrong = samples.targets[~(samples.targets.abs() <= MAX_TARGET)]
        if len(wrong):
            reason = f"a target of the {name} split is {wrong[0]:g}; expected numbers from -1e100 to 1e100"
            raise UserError(Problem("data", reason, advice="Choose another unit.", check="label range"))


def _absent(classes: Sequence[str], train: Split) -> list[str]:
    """Return a sentence on classes without training samples, which a group, an order or the user's own split makes."""
    if not classes or train.targets.ndim > 1:
        return []
    counts = torch.bincount(train.targets, minlength=len(classes)).tolist()
    absent = [name for name, count in zip(classes, counts, strict=True) if not count]
    return [f"no sample to train on has the class {first_few(absent)}"] if absent else []


def _fit_prepare(train: Split, source: Source) -> Prepare | TablePrepare:
    if source.columns:
        return fit_table(source.columns, train.samples.take(train.indices), source.missing)
    first = train.samples.take(train.indices[:1])
    count = min(len(train), STATISTICS_IMAGES, max(1, STATISTICS_BYTES // max(1, first.nbytes)))
    spread = torch.linspace(0, len(train) - 1, count).long()
    shape = tuple(first.shape[1:])
    if first.dtype == torch.uint8:
        chunks = train.indices[spread].split(max(1, CHUNK_BYTES // max(1, first.nbytes)))
        return Prepare(shape, *channel_statistics(map(train.samples.take, chunks)))
    if source.standardise and len(shape) == 3:
        chunks = train.indices[spread].split(max(1, CHUNK_BYTES // max(1, first.nbytes)))
        return Prepare(shape, *float_statistics(lambda: map(train.samples.take, chunks)))
    train.samples.take(train.indices[spread])  # refuses samples of different shapes
    return Prepare(shape, (0.0,) * shape[0], (1.0,) * shape[0])


def balancing(data: Data) -> Tensor:
    """Return sampling weights, float64 [N] for N training samples, that draw every class equally often.

    Raises:
        UserError: a sample does not belong to a class.
    """
    if not isinstance(data.task, Classification):
        reason = f"{NO_CLASSES[data.task.name]}; there are no classes to balance"
        raise UserError(Problem("data.balance", reason, given="sampler"))
    targets = data.splits["train"].targets
    return (1 / torch.bincount(targets).double())[targets]
