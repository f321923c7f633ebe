"""Data sources: the raw samples of each split, with their classes, task and columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b

from trainer.data.samples import Samples
from trainer.data.tables.prepare import Column


@dataclass
class Source:
    """A data set before it is split and prepared.

    Attributes:
        splits: raw samples by split: `train`, and `valid` and `test` if the data set has them.
        classes: names in label order; empty for a regression.
        task: `classification` or `regression`.
        columns: the columns of a table.
        missing: how missing values of a table are filled: `mean`, `median` or None.
        notes: sentences for the header.
        skipped: path in the folder, class and reason of files that cannot be used and are left out.
        standardise: scale images of floats like those of bytes, each channel to mean 0 and standard deviation 1.
    """

    splits: dict[str, Samples]
    classes: tuple[str, ...]
    task: str = "classification"
    columns: tuple[Column, ...] = ()
    missing: str | None = None
    notes: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    standardise: bool = False

    @cached_property
    def fingerprint(self) -> str:
        """Digest that changes when samples, labels or their order do, or the names of columns, categories or classes.

        It is cached, because it may read every byte.
        """
        names = [self.classes, [(column.name, column.categories) for column in self.columns]]
        digest = blake2b(repr(names).encode(), digest_size=16)
        for name, samples in self.splits.items():
            digest.update(name.encode() + samples.fingerprint())
        return digest.hexdigest()
