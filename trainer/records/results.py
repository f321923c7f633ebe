"""results.json: the outcome of a run. One dataclass, one reader and one writer; does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainer.data.metrics import SplitReport, headline
from trainer.errors import Problem, UserError
from trainer.files import write_atomically
from trainer.records.contents import exists
from trainer.records.schema import dump, read_json

FILE = "results.json"
LARGEST_BYTES = 100_000_000
FINISHED = ("completed", "early_stopped")


@dataclass(frozen=True)
class Results:
    """The outcome of a run.

    Attributes:
        status: completed, early_stopped, interrupted, paused, pruned, diverged or failed.
        reason: why it ended.
        task: binary, multiclass, multilabel or regression.
        epochs, steps: finished epochs and optimizer steps.
        steps_per_epoch: optimizer steps of an epoch.
        best_epoch, best_step: finished epochs and steps at the best validation, whose weights are tested.
        monitor: the column of metrics.csv that determines the best validation.
        train, valid: metrics at the best validation.
        test: None if the run was not tested.
        parameters: number of elements, `total` and `trainable`.
        seconds: wall-clock time, `total`, `setup`, `training` and `testing`.
        samples_per_second: training samples per second, including the time of validation.
        versions: versions of this program, Python and the main libraries.
        command: the command line as typed, which may have started a whole sweep.
        overrides: the overrides of this run alone.
        skipped_images: path and reason of images that could not be decoded.
        unlabelled: whether the test samples have no targets, so that nothing can be tested.
        error: the reason of a run that failed or diverged.
    """

    status: str
    reason: str | None = None
    task: str | None = None
    epochs: int = 0
    steps: int = 0
    steps_per_epoch: int | None = None
    best_epoch: int | None = None
    best_step: int | None = None
    monitor: str | None = None
    train: dict[str, float | None] | None = None
    valid: dict[str, float | None] | None = None
    test: SplitReport | None = None
    parameters: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    samples_per_second: float | None = None
    device: str | None = None
    threads: int | None = None
    peak_memory_bytes: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    seed: int | None = None
    command: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    git_commit: str | None = None
    data_fingerprint: str | None = None
    skipped_images: list[dict[str, str]] = field(default_factory=list)
    unlabelled: bool = False
    error: str | None = None

    @property
    def tested(self) -> bool:
        """Whether the run was tested, or cannot be."""
        return self.test is not None or self.unlabelled

    @classmethod
    def failed(cls, reason: str) -> Results:
        """Return the results of a run that failed before it had any."""
        return cls("failed", reason=reason, error=reason)

    @property
    def ended_inside(self) -> bool:
        """Whether the run ended inside an epoch."""
        return self.steps_per_epoch is not None and self.epochs * self.steps_per_epoch != self.steps

    @property
    def best_inside(self) -> bool:
        """Whether the best validation was inside an epoch."""
        per_epoch, best = self.steps_per_epoch, self.best_epoch
        return per_epoch is not None and best is not None and best * per_epoch != self.best_step

    def split(self, name: str) -> Mapping[str, float | None]:
        """Return the metrics of a split: at the best validation for `train` and `valid`, of the test for `test`."""
        if name == "test":
            return self.test.metrics if self.test else {}
        return {"train": self.train, "valid": self.valid}.get(name) or {}

    def value(self, column: str | None) -> float | None:
        """Return the value of a column of metrics.csv, such as `valid_loss`, at the best validation."""
        split, _, name = (column or "").partition("_")
        return self.split(split).get(name) if split != "test" else None

    @property
    def headline(self) -> float | None:
        """The headline metric of the test: accuracy, or the root mean squared error."""
        return headline(self.split("test"))


def write_results(folder: Path, results: Results) -> None:
    """Write results.json into a run folder.

    Raises:
        RunFailed: the file could not be written.
    """
    write_atomically(folder / FILE, dump(results).encode())


def read_results(folder: Path) -> Results | None:
    """Return the content of a run folder's results.json; None if there is no such file.

    Raises:
        UserError: the file cannot be read, or has unexpected content.
    """
    path = folder / FILE
    if not exists(path):
        return None
    results = read_json(path, LARGEST_BYTES, Results)
    test = results.test
    if test and not _is_square(test.confusion_matrix, len(test.per_class)):
        reason = "unexpected content: test.confusion_matrix does not fit test.per_class"
        raise UserError(Problem(str(path), reason))
    return results


def results_or_failure(folder: Path) -> Results | None:
    """Return the content of results.json, or the results of a failed run if the file cannot be read.

    For runs that can be trained again: one damaged file must not end a sweep, nor keep a run from being resumed.
    """
    try:
        return read_results(folder)
    except UserError as error:
        return Results.failed(str(error))


def _is_square(matrix: list[list[int]], size: int) -> bool:
    return not matrix or (len(matrix) == size and all(len(row) == size for row in matrix))
