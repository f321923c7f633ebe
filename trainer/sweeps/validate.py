"""Validation of the jobs of a sweep before the first one starts: whether each can be built."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from trainer.components.assemble import Components, assemble
from trainer.components.optimizer import build_optimizer
from trainer.components.schedule import RunLength, build_schedule
from trainer.components.targets import find_targets, resolve_targets
from trainer.config.effects import effects_of
from trainer.config.job import Job
from trainer.config.overrides import leaves_of
from trainer.config.schema import GROUPS
from trainer.config.sweep_keys import HalvingConfig
from trainer.config.values import Duration
from trainer.errors import Problem, UserError, raised_at
from trainer.processes import run_in_subprocess
from trainer.report.console import StatusBar
from trainer.sweeps.plan import Plan

LIGHT = 1_000_000  # parameters
# Values of `Effects.changes` for numbers that may differ between jobs of the same kind.
SAME_BUILD = ("result",)  # built in the same way, so that building one of them is enough
SAME_COST = ("result", "build")  # a step of each takes the same time


def validate(jobs: Sequence[Job], plan: Plan, *, trusted: bool) -> Plan:
    """Build one job of each kind without training it, and the optimizer and schedule of the others.

    Reads the data into `plan.shared`, from which the jobs take it; returns the plan with `light` set.

    Raises:
        UserError: with the problems of all jobs, each once.
    """
    # A user's code runs in a child process, so that its side effects do not reach the jobs.
    shipped = [job for job in jobs if not user_targets(job)]
    foreign = [job for job in jobs if user_targets(job)]
    problems, light = _build_each_kind(shipped, plan, trusted)
    if foreign:
        light = False
        problems += run_in_subprocess(plan.devices, _build_user_code, foreign, plan, trusted)
    if problems:
        raise UserError(*dict.fromkeys(problems))
    return replace(plan, light=light)


def user_targets(job: Job) -> list[str]:
    """Return `group._target_=name` for each component from outside this program and its libraries."""
    return [f"{key}._target_={name}" for key, name in job.config.own_code.items()]


def _build_user_code(jobs: Sequence[Job], plan: Plan, trusted: bool) -> list[Problem]:
    """Return the problems of jobs with a user's code, which may raise anything, even SystemExit."""
    problems: list[Problem] = []
    for targets, alike in _grouped((", ".join(user_targets(job)), job) for job in jobs).items():
        try:
            problems += _build_each_kind(alike, plan, trusted)[0]
        except (Exception, SystemExit) as error:
            problems.append(Problem(targets, f"it cannot be built: {raised_at(error)}"))
    return problems


def _build_each_kind(jobs: Sequence[Job], plan: Plan, trusted: bool) -> tuple[list[Problem], bool]:
    """Return the problems of these jobs, and whether all their models are light."""
    problems = [p for job in jobs for p in find_targets(job.config, GROUPS, trusted=trusted or job.config.trust)[1]]
    if problems:
        return problems, False
    light = True
    for alike in _grouped((kind(job), job) for job in jobs).values():
        config = replace(alike[0].config, device="cpu", threads=1, compile=False)
        try:
            with StatusBar(lambda: None) as progress:
                components = assemble(config, trusted=trusted or config.trust, cache=plan.shared, progress=progress)
        except UserError as error:
            problems += error.problems
            continue
        light = light and _is_light(components.state.model, plan.devices)
        steps = math.ceil(len(components.train) / config.accumulate)
        problems += _unvalidated(config.validate_every, steps, plan.halving)
        problems += _optimizer_problems(alike[1:], components, steps, trusted=trusted)
    return problems, light


def _optimizer_problems(jobs: Sequence[Job], components: Components, steps: int, *, trusted: bool) -> list[Problem]:
    """Return the problems of building each job's optimizer and schedule for the model of another job.

    Args:
        jobs: jobs whose optimizer and schedule are built.
        components: components of the other job.
        steps: optimizer steps in an epoch.
        trusted: whether the jobs may name code other than this program's.
    """
    problems: list[Problem] = []
    model, device = components.state.model, components.device
    for config in {repr((job.config.optim, job.config.schedule)): job.config for job in jobs}.values():
        try:
            targets = resolve_targets(config, ["optim", "schedule"], trusted=trusted or config.trust)
            frozen_too = config.unfreeze_at is not None
            optimizer = build_optimizer(config.optim, targets.optim, model, device, frozen_too=frozen_too)
            length = RunLength(config.epochs, steps, config.validate_every)
            build_schedule(config.schedule, targets.schedule, optimizer, length, config.direction)
        except UserError as error:
            problems += error.problems
    return problems


def _unvalidated(every: Duration, steps: int, halving: HalvingConfig) -> list[Problem]:
    """Return a problem if a job with `steps` per epoch would reach its first rung without a value to compare."""
    epochs = every.amount if every.unit == "ep" else math.ceil(every.amount / steps)
    if halving.factor is None or epochs <= halving.min_epochs:
        return []
    reason = f"no job is validated by then; expected at least {epochs} because validate_every={every}"
    return [Problem("sweep.halving.min_epochs", reason, given=str(halving.min_epochs))]


def _is_light(model: nn.Module, devices: Sequence[str]) -> bool:
    """Return whether a model is small; on a CPU, a model with convolutions never is."""
    convolutions = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return sum(p.numel() for p in model.parameters()) < LIGHT and not (convolutions and devices[0] == "cpu")


def kind(job: Job, changes: Sequence[str] = SAME_BUILD) -> str:
    """Return a string that is equal for jobs that differ only in numbers of keys with these `Effects.changes`."""

    def masked(key: str, value: Any) -> Any:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return "a number" if number and effects_of(key).changes in changes else value

    return json.dumps({key: masked(key, value) for key, value in leaves_of(job.stored)}, default=str)


def _grouped(pairs: Iterable[tuple[str, Job]]) -> dict[str, list[Job]]:
    groups: dict[str, list[Job]] = {}
    for key, job in pairs:
        groups.setdefault(key, []).append(job)
    return groups
