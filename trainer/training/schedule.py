"""The learning rate schedule: a linear warm-up, then a scheduler of torch, stepped per step, epoch or validation."""

from __future__ import annotations

import warnings
from typing import Any

from torch.optim.lr_scheduler import LinearLR, LRScheduler, ReduceLROnPlateau


class Schedule:
    """A scheduler of torch, stepped at the right times.

    Args:
        main: The scheduler; None keeps the learning rate.
        interval: When `main` is stepped: `step`, `epoch` or `validation`.
        warmup: Stepped for the first `warmup_steps` optimizer steps, in which a per-step `main` is not stepped.
        warmup_steps: The number of these steps.
    """

    def __init__(
        self, main: LRScheduler | None, interval: str, warmup: LinearLR | None = None, warmup_steps: int = 0
    ) -> None:
        self.main, self.interval, self.warmup, self.warmup_steps = main, interval, warmup, warmup_steps

    def after_step(self, step: int) -> None:
        """Step what is due after an optimizer step; `step` is the number of finished ones."""
        if self.warmup is not None and step <= self.warmup_steps:
            self.warmup.step()
        elif self.main is not None and self.interval == "step":
            self.main.step()

    def after_epoch(self) -> None:
        """Step what is due after an epoch."""
        if self.main is not None and self.interval == "epoch":
            self.main.step()

    def after_validation(self, monitored: float) -> None:
        """Step what is due after a validation; `monitored` is the monitored metric."""
        if self.main is not None and self.interval == "validation":
            if isinstance(self.main, ReduceLROnPlateau):
                self.main.step(monitored)
            else:
                self.main.step()

    def replay(self, steps: int, epochs: int) -> None:
        """Bring a new schedule to the state after `steps` optimizer steps and `epochs` epochs.

        It is used if a run is resumed by force with another schedule. Steps per validation are not replayed.
        """
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
        """Take over the states that `state_dict` returned."""
        for scheduler, saved in ((self.main, state["main"]), (self.warmup, state["warmup"])):
            if scheduler is not None:
                scheduler.load_state_dict(saved)


def _plain(scheduler: LRScheduler | None) -> dict[str, Any] | None:
    """Return a state without functions, which some schedulers keep in it and no checkpoint may hold."""
    if scheduler is None:
        return None
    return {name: value for name, value in scheduler.state_dict().items() if not callable(value)}
