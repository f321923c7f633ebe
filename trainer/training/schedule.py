"""The learning rate schedule: a linear warm-up, then a torch scheduler, stepped per step, epoch or validation."""

from __future__ import annotations

import warnings
from typing import Any

from torch.optim.lr_scheduler import LinearLR, LRScheduler, ReduceLROnPlateau


class Schedule:
    """A torch scheduler with a linear warm-up, stepped at the right times.

    Args:
        main: the scheduler; None keeps the learning rate.
        interval: when `main` is stepped: `step`, `epoch` or `validation`.
        warmup: stepped for the first `warmup_steps` optimizer steps, in which a per-step `main` is not stepped.
        warmup_steps: the number of these steps.
    """

    def __init__(
        self, main: LRScheduler | None, interval: str, warmup: LinearLR | None = None, warmup_steps: int = 0
    ) -> None:
        self.main, self.interval, self.warmup, self.warmup_steps = main, interval, warmup, warmup_steps

    def after_step(self, step: int) -> None:
        """Step the warm-up or a per-step scheduler; `step` is the number of finished optimizer steps."""
        if self.warmup is not None and step <= self.warmup_steps:
            self.warmup.step()
        elif self.main is not None and self.interval == "step":
            self.main.step()

    def after_epoch(self) -> None:
        """Step a per-epoch scheduler."""
        if self.main is not None and self.interval == "epoch":
            self.main.step()

    def after_validation(self, monitored: float) -> None:
        """Step a per-validation scheduler; `monitored` is the value of the monitored metric."""
        if self.main is not None and self.interval == "validation":
            if isinstance(self.main, ReduceLROnPlateau):
                self.main.step(monitored)
            else:
                self.main.step()

    def replay(self, steps: int, epochs: int) -> None:
        """Bring a new schedule to the state after these steps and epochs; steps per validation are not replayed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that the optimizer was not stepped
            for step in range(1, steps + 1):
                self.after_step(step)
            for _ in range(epochs):
                self.after_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both schedulers."""
        return {"main": _plain(self.main), "warmup": _plain(self.warmup)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the states that `state_dict` returned."""
        for scheduler, saved in ((self.main, state["main"]), (self.warmup, state["warmup"])):
            if scheduler is not None:
                scheduler.load_state_dict(saved)


def _plain(scheduler: LRScheduler | None) -> dict[str, Any] | None:
    """Return a scheduler's state without functions, which a checkpoint must not hold."""
    if scheduler is None:
        return None
    return {name: value for name, value in scheduler.state_dict().items() if not callable(value)}
