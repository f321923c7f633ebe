"""Interfaces of the training loop: batches, a saver of checkpoints, and a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from trainer.data.batches import Batches
from trainer.records.metrics import MetricsRow
from trainer.training.state import RunState


@dataclass(frozen=True)
class TrainingData:
    """The batches that a population trains and validates on."""

    train: Batches
    valid: Batches


class Saver(Protocol):
    """Writes the checkpoints of a population."""

    def due(self, state: RunState) -> bool:
        """Return whether the population should be saved after this step; `state` is its first run."""

    def save(self, state: RunState) -> bool:
        """Save a run that ends; if its weights are not finite, save nothing and return False."""

    def save_best(self, state: RunState) -> None:
        """Save the best weights of a run that diverged."""

    def keep(self, state: RunState) -> None:
        """Keep the weights of a run's last validation, if `checkpoint.keep` says so."""

    def save_all(self, states: Sequence[RunState]) -> list[RunState]:
        """Save all runs during training; return those whose weights are not finite."""


class Report(Protocol):
    """Shows the progress of training."""

    def begin(self, state: RunState, done: int, total: int) -> None:
        """Show that training begins with `done` of `total` batches."""

    def advance(self, state: RunState, batches: int, samples: int) -> None:
        """Show that a step over `batches` batches and `samples` samples is done."""

    def row(self, row: MetricsRow, best: bool) -> None:
        """Show a row of metrics.csv."""
