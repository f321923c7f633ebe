"""The training loop's report: console, files and tracker."""

from __future__ import annotations

from trainer.records.folder import RunFolder
from trainer.records.metrics import MetricsRow
from trainer.report.console import Console
from trainer.run.gradients import GradientLog
from trainer.trackers.base import SafeTracker


class Journal:
    """A report that goes to the console, to metrics.csv, to gradients.csv and to a tracker."""

    def __init__(
        self,
        console: Console,
        folder: RunFolder,
        gradients: GradientLog | None = None,
        tracker: SafeTracker | None = None,
    ) -> None:
        self.begin, self.advance = console.begin, console.advance
        self.console, self.folder, self.gradients, self.tracker = console, folder, gradients, tracker

    def row(self, row: MetricsRow, best: bool) -> None:
        """Report a row of metrics.csv."""
        self.folder.add_metrics(row)
        self.console.row(row, best)
        if self.gradients is not None:
            self.gradients.row(row.epoch, row.step, row["train_loss"])
        if self.tracker is not None:
            self.tracker.row(row)
