"""Build the schedule of the learning rates."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, ReduceLROnPlateau

from trainer.components.target import Target
from trainer.components.targets import SCHEDULE_LENGTHS
from trainer.config.keys import ScheduleConfig
from trainer.config.values import Duration
from trainer.errors import Problem, UserError, show
from trainer.training.schedule import Schedule


@dataclass(frozen=True)
class RunLength:
    """The length of a run: epochs, optimizer steps per epoch, and `validate_every`."""

    epochs: int
    steps_per_epoch: int
    validate_every: Duration

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def validations(self) -> int:
        """Validations of the whole run, one at least."""
        every = self.validate_every
        return max(self.steps // (every.amount * (self.steps_per_epoch if every.unit == "ep" else 1)), 1)


def depends_on_epochs(target: Target | None) -> bool:
    """Return whether the learning rate at a step depends on `epochs`."""
    if target is None:
        return False
    return any(name in target.parameters and target.arguments.get(name) is None for name in SCHEDULE_LENGTHS)


def build_schedule(
    schedule: ScheduleConfig, target: Target | None, optimizer: Optimizer, length: RunLength, better: str
) -> Schedule:
    """Return the schedule over the whole run.

    Raises:
        UserError: a warm-up before a schedule that has its own, or one as long as the run.
    """
    warmup_steps = round(schedule.warmup_epochs * length.steps_per_epoch)
    if warmup_steps >= length.steps:
        given = f"{schedule.warmup_epochs:g}"
        raise UserError(Problem("schedule.warmup_epochs", f"expected less than epochs={length.epochs}", given=given))
    if target is None:
        return Schedule(None, schedule.interval, _warmup(optimizer, warmup_steps), warmup_steps)
    if warmup_steps and target.name.endswith((".OneCycleLR", ".CyclicLR")):
        raise UserError(Problem("schedule.warmup_epochs", "one_cycle has its own warm-up, schedule.pct_start"))
    calls = {"step": length.steps - warmup_steps, "epoch": length.epochs, "validation": length.validations}
    max_lr = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    defaults: dict[str, Any] = dict.fromkeys(SCHEDULE_LENGTHS, calls[schedule.interval])
    if target.name.endswith(".ReduceLROnPlateau"):
        defaults["mode"] = better
        if schedule.interval != "validation":
            reason = "ReduceLROnPlateau follows the monitored metric, which only a validation computes"
            advice = "Use schedule.interval=validation."
            raise UserError(Problem("schedule.interval", reason, given=schedule.interval, advice=advice))
    _try_schedule(target, defaults | {"max_lr": max_lr[0]})
    main = target.build(optimizer, **defaults, max_lr=max_lr)
    return Schedule(main, schedule.interval, _warmup(optimizer, warmup_steps), warmup_steps)


def _warmup(optimizer: Optimizer, steps: int) -> LinearLR | None:
    """Return the warm-up; it is built after the main scheduler, as some set the rates when they are built."""
    if not steps:
        return None
    for group in optimizer.param_groups:
        group["lr"] = group.get("initial_lr", group["lr"])
    return LinearLR(optimizer, start_factor=1 / (steps + 1), total_iters=steps)


def _try_schedule(target: Target, defaults: dict[str, Any]) -> None:
    """Take a trial step: some schedulers refuse an argument, such as a step_size of 0, only in their first step."""
    trial = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    scheduler = target.build(trial, **defaults)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no optimizer step comes before
            scheduler.step(*([1.0] if isinstance(scheduler, ReduceLROnPlateau) else []))
    except (ZeroDivisionError, ValueError, TypeError) as error:
        typed = " ".join(f"schedule.{key}={show(value)}" for key, value in target.arguments.items())
        raise UserError(Problem("schedule", f"{target.name} refuses {typed}: {error}")) from error
