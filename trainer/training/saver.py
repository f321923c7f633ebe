"""Saving of a run's checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from trainer.config.values import Duration
from trainer.device import exact_dtype
from trainer.records.contents import make_folder, names, remove, remove_torn
from trainer.training.checkpoint import BEST, LAST, PREVIOUS, Checkpoint, kept, kept_name, save
from trainer.training.state import Best, RunState

AUTO_SHARE = 0.02  # of the training time may be spent on saving with checkpoint.every=auto
BYTES_PER_SECOND = 200e6  # assumed for the first save, before one has been measured


def is_finite(state: RunState) -> bool:
    """Return whether all weights of a run are finite. Synchronises with the device once for all tensors."""
    sums = [
        value.to(exact_dtype(value.device)).sum()
        for value in state.model.state_dict().values()
        if value.is_floating_point()
    ]
    return not sums or bool(torch.stack([s.to(sums[0].device) for s in sums]).isfinite().all())


class Saver:
    """Writes the checkpoints of one run.

    Args:
        folder: folder of the files, created if missing.
        every: `checkpoint.every`; None saves at the ends of epochs as long as that takes less than `AUTO_SHARE`.
        metadata: description that each file holds besides weights, so that best.pt alone is enough to predict.
        keep: `checkpoint.keep`; None keeps the best and the last weights alone.
    """

    def __init__(self, folder: Path, every: Duration | None, metadata: dict[str, Any], keep: str | None = None) -> None:
        self.folder, self.every, self.metadata, self.kept = folder, every, metadata, keep
        self.saved_step, self.saved_best = -1, -1
        self.started = self.saved_at = time.perf_counter()
        self.spent = 0.0
        self.last_cost: float | None = None
        make_folder(folder)
        remove_torn(folder)

    def due(self, state: RunState) -> bool:
        if state.step == 0 or state.step == self.saved_step:
            return False
        if self.every is None:
            elapsed = time.perf_counter() - self.started
            return state.batch == 0 and self.spent + self._expected_cost(state) <= AUTO_SHARE * elapsed
        if self.every.unit == "min":
            return time.perf_counter() - self.saved_at >= self.every.amount * 60
        if self.every.unit == "st":
            return state.step % self.every.amount == 0
        return state.batch == 0 and state.epoch % self.every.amount == 0

    def _expected_cost(self, state: RunState) -> float:
        """Return the expected seconds of the next save: those of the last one, or an estimate before the first."""
        if self.last_cost is None:
            size = sum(p.numel() * p.element_size() for p in state.model.parameters())
            self.last_cost = 0.005 + 4 * size / BYTES_PER_SECOND
        return self.last_cost

    def save_all(self, states: Sequence[RunState]) -> list[RunState]:
        """Save the runs of a population, here one; return those whose weights are not finite."""
        return [state for state in states if not self.save(state)]

    def save(self, state: RunState) -> bool:
        """Write `best.pt` if there is a new best, and `last.pt`; the old `last.pt` becomes `previous.pt`.

        Returns:
            False if the weights are not finite; nothing is written then.

        Raises:
            RunFailed: a file could not be written; those of the previous save remain.
        """
        if state.step == self.saved_step:
            return True
        begin = time.perf_counter()
        if not is_finite(state):
            return False
        self.save_best(state)
        save(self.folder / LAST, Checkpoint.of_run(self.metadata, state).to_dict(), self.folder / PREVIOUS)
        self.saved_step, self.saved_at = state.step, time.perf_counter()
        self.last_cost = self.saved_at - begin
        self.spent += self.last_cost
        return True

    def save_best(self, state: RunState) -> None:
        """Write `best.pt` if there is a new best; see `save` for what it raises."""
        if state.best is None or state.best.step == self.saved_best:
            return
        save(self.folder / BEST, Checkpoint.of_best(self.metadata, state.best).to_dict())
        self.saved_best = state.best.step

    def keep(self, state: RunState) -> None:
        """Write the weights of the last validation to a file of their own if `checkpoint.keep` says so.

        Older ones beyond the number to keep are deleted. Weights that are not finite are not kept.

        Raises:
            RunFailed: the file could not be written, or an old one not deleted.
        """
        if self.kept is None or not is_finite(state):
            return
        validation = Best(math.nan, state.epoch, state.step, state.weights(), state.history[-1])
        name = kept_name(state.epoch, state.step if state.batch else None)
        save(self.folder / name, Checkpoint.of_best(self.metadata, validation).to_dict())
        if self.kept != "all":
            for old in kept(names(self.folder))[: -int(self.kept)]:
                remove(self.folder / old)
