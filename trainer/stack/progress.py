"""The rows of a stack while it trains, and the limit of open files."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from trainer.records.metrics import MetricsRow
from trainer.records.table import Table
from trainer.training.state import RunState

FILES_EACH, FILES_BESIDE = 2, 128  # files that a run holds open, and that its process holds open besides


class Progress:
    """A report that writes a stack's own metrics.csv: a row per validation, with the best value of its runs.

    Attributes:
        best: the `id` of each row that was the best of its run when it was reported.
    """

    def __init__(self, folder: Path, monitor: str, better: str) -> None:
        self.monitor = monitor
        self.better = max if better == "max" else min
        self.table = Table(folder / "metrics.csv", ["epoch", "step", "runs", monitor])
        self.best: set[int] = set()
        self.rows: list[MetricsRow] = []

    def begin(self, state: RunState, done: int, total: int) -> None:
        """Show nothing: only validations have rows."""

    def advance(self, state: RunState, batches: int, samples: int) -> None:
        """Write the row of the validation before this step, if there was one."""
        self._flush()

    def row(self, row: MetricsRow, best: bool) -> None:
        """Collect a run's row of the current validation."""
        self.rows.append(row)
        if best:
            self.best.add(id(row))

    def _flush(self) -> None:
        if not self.rows:
            return
        values = [value for row in self.rows if (value := row[self.monitor]) is not None]
        first = {"epoch": self.rows[0].epoch, "step": self.rows[0].step, "runs": len(self.rows)}
        self.table.add({**first, self.monitor: self.better(values, default=None)})
        self.rows = []

    def close(self) -> None:
        """Write the last row and close the file."""
        self._flush()
        self.table.close()


def most_files() -> int:
    """Return how many runs can have their files open at a time."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return sys.maxsize if hard == resource.RLIM_INFINITY else (hard - FILES_BESIDE) // FILES_EACH


def allow_files(runs: int) -> None:
    """Raise this process's limit of open files to what `runs` runs need, up to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES_EACH * runs + FILES_BESIDE
    if soft != resource.RLIM_INFINITY and soft < needed:
        limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
