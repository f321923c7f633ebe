"""When the learning rate changes: a linear warm-up, then one of torch's schedulers, each stepped at its own moments."""

from __future__ import annotations

import warnings
from typing import Any

from torch.optim.lr_scheduler import LinearLR, LRScheduler, ReduceLROnPlateau


class Schedule:
    """One of torch's schedulers and the moments at which it is stepped.

    Args:
        main: None keeps the learning rate.
        interval: `step`, `epoch` or `validation`.
        warmup: stepped for the first `warmup_steps` optimizer steps, during which a per-step `main` waits.
    """

    def __init__(
        self, main: LRScheduler | None, interval: str, warmup: LinearLR | None = None, warmup_steps: int = 0
    ) -> None:
        self.main, self.interval, self.warmup, self.warmup_steps = main, interval, warmup, warmup_steps

    def after_step(self, step: int) -> None:
        """`step`: finished optimizer steps."""
        if self.warmup is not None and step <= self.warmup_steps:
            self.warmup.step()
        elif self.main is not None and self.interval == "step":
            self.main.step()

    def after_epoch(self) -> None:
        if self.main is not None and self.interval == "epoch":
            self.main.step()

    def after_validation(self, monitored: float) -> None:
        if self.main is not None and self.interval == "validation":
            if isinstance(self.main, ReduceLROnPlateau):
                self.main.step(monitored)
            else:
                self.main.step()

    def replay(self, steps: int, epochs: int) -> None:
        """Brings a fresh schedule to where one of `steps` optimizer steps and `epochs` epochs would be.

        Used when a run is resumed by force with another schedule; what depends on validations starts anew.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch expects an optimizer step before each
            for step in range(1, steps + 1):
                self.after_step(step)
            for _ in range(epochs):
                self.after_epoch()

    def state_dict(self) -> dict[str, Any]:
        return {"main": _plain(self.main), "warmup": _plain(self.warmup)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for scheduler, saved in ((self.main, state["main"]), (self.warmup, state["warmup"])):
            if scheduler is not None:
                scheduler.load_state_dict(saved)


def _plain(scheduler: LRScheduler | None) -> dict[str, Any] | None:
    """The state without what a checkpoint may not hold: functions that some schedulers keep in their state."""
    if scheduler is None:
        return None
    return {name: value for name, value in scheduler.state_dict().items() if not callable(value)}
