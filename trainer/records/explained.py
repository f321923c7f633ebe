"""Files of `trainer explain` that a run's page shows, in the folder `explain` of the run. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from trainer.files import write_atomically
from trainer.records.contents import exists
from trainer.records.details import Mistake
from trainer.records.schema import dump, read_json

FOLDER, COLUMNS, MISTAKES = "explain", "columns.json", "mistakes.json"
LARGEST_BYTES = 20_000_000


@dataclass(frozen=True)
class ColumnImportance:
    """How much a metric falls when the values of a column are permuted: mean and standard deviation of the repeats."""

    name: str
    mean: float
    std: float


@dataclass(frozen=True)
class Importance:
    """Content of columns.json: the permutation importance of each column.

    Attributes:
        split: train, valid or test; `part` in the file.
        samples: number of samples in it.
        own_data: whether it is the data that the run was trained on.
        metric, score: the metric, and its value on the rows as they are.
        repeats: number of permutations of each column.
        seed: the seed of the permutations.
        columns: most important first.
    """

    split: str = field(metadata={"json": "part"})
    samples: int
    own_data: bool
    metric: str
    score: float
    repeats: int
    seed: int
    columns: list[ColumnImportance]


@dataclass(frozen=True)
class ExplainedMistakes:
    """Content of mistakes.json: pictures of the most confident mistakes beside what decided them.

    Attributes:
        split: train, valid or test; `part` in the file.
        method: how they were explained.
    """

    split: str = field(metadata={"json": "part"})
    method: str
    mistakes: list[Mistake]


@dataclass(frozen=True)
class Explained:
    """What `trainer explain` left in a run folder."""

    columns: Importance | None = None
    mistakes: ExplainedMistakes | None = None


def write_explained(folder: Path, content: Importance | ExplainedMistakes) -> Path:
    """Write columns.json or mistakes.json into an existing folder; return its path.

    Raises:
        RunFailed: the file could not be written.
    """
    path = folder / (COLUMNS if isinstance(content, Importance) else MISTAKES)
    write_atomically(path, dump(content).encode())
    return path


def read_explained(run: Path) -> Explained:
    """Return what was explained of a run; empty without such files.

    Raises:
        UserError: a file cannot be read, or has unexpected content.
    """
    columns, mistakes = run / FOLDER / COLUMNS, run / FOLDER / MISTAKES
    return Explained(
        read_json(columns, LARGEST_BYTES, Importance) if exists(columns) else None,
        read_json(mistakes, LARGEST_BYTES, ExplainedMistakes) if exists(mistakes) else None,
    )
