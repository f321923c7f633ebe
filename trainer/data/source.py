"""Data sources: the raw samples of each split, with their classes, task and columns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b

from torch import Tensor

from trainer.data.samples import Samples
from trainer.data.tables.prepare import Column


@dataclass(frozen=True)
class SplitKey:
    """A column, or an array of the user's own, by which samples are divided.

    Attributes:
        name: its name, for messages.
        values: [N], one for each training sample; see Division.
        texts: the groups by their codes, for messages.
        dates: whether the values are days since 1970-01-01.
    """

    name: str
    values: Tensor
    texts: tuple[str, ...] = ()
    dates: bool = False


@dataclass(frozen=True)
class Division:
    """How the `train` samples of a source are to be divided; without any of these, at random by class.

    Attributes:
        group: codes int64 [N]; the samples of a group stay in one split and in one fold.
        order: float64 [N]; the last samples are the validation and test splits.
        split: int64 [N], an index into `split.SPLITS`; -1 leaves a sample out.
    """

    group: SplitKey | None = None
    order: SplitKey | None = None
    split: SplitKey | None = None

    def select(self, positions: Tensor) -> Division:
        """Return the division of the training samples at these positions."""
        keys = {name: key and replace(key, values=key.values[positions]) for name, key in vars(self).items()}
        return Division(**keys)


@dataclass
class Source:
    """A data set before it is split and prepared.

    Attributes:
        splits: raw samples by split: `train`, and `valid` and `test` if the data set has them.
        classes: names in label order, also of the labels of a multi-label task; empty for a regression.
        task: `classification`, `multilabel` or `regression`.
        columns: the columns of a table.
        missing: how missing values of a table are filled: `mean`, `median` or None.
        notes: sentences for the header.
        unlabelled: the folder of test samples without targets, relative to `data.root`; nothing is held out for a test.
        skipped: path in the folder, class and reason of files that cannot be used and are left out.
        standardise: scale images of floats like those of bytes, each channel to mean 0 and standard deviation 1.
        division: what decides how the samples of `train` are divided.
        targets: the names of the targets of a regression on several; empty for one.
    """

    splits: dict[str, Samples]
    classes: tuple[str, ...]
    task: str = "classification"
    columns: tuple[Column, ...] = ()
    missing: str | None = None
    notes: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    unlabelled: str = ""
    standardise: bool = False
    division: Division = Division()
    targets: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Digest that changes when samples, labels or their order do, or the names of columns, categories or classes.

        It is cached, because it may read every byte.
        """
        names = [self.classes, [(column.name, column.categories) for column in self.columns]]
        names += [self.targets] if self.targets else []
        digest = blake2b(repr(names).encode(), digest_size=16)
        for name, samples in self.splits.items():
            digest.update(name.encode() + samples.fingerprint())
        return digest.hexdigest()
