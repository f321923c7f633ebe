"""Before the first job of a sweep starts: how many at a time, on what, and whether each can run at all."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from trainer import device
from trainer.components.assemble import Components, assemble
from trainer.components.optimizer import build_optimizer
from trainer.components.schedule import RunLength, build_schedule
from trainer.components.targets import OUR_MODULES, find_targets, resolve_targets
from trainer.config.compose import Job
from trainer.config.keys import HalvingConfig, SweepConfig
from trainer.config.overrides import leaves_of
from trainer.config.schema import GROUPS, Config, Duration
from trainer.data.loader import DataCache
from trainer.errors import Problem, UserError, raised_at
from trainer.processes import run_in_subprocess
from trainer.report.console import StatusBar

LIGHT = 1_000_000  # parameters
# Where a number decides nothing of what is built and read; optimizer and schedule are tried for each job.
HARMLESS = (
    "optim",
    "schedule",
    "seed",
    "trial",
    "data.seed",
    "patience",
    "min_delta",
    "clip_norm",
    "clip_value",
    "ema",
)


@dataclass
class Plan:
    """How jobs are run.

    Attributes:
        devices: one for each worker.
        threads: of each job that leaves them open.
        used: fewest and most threads of a job.
        halving: where jobs are compared, each must have been validated.
        shared: the data, read once.
        light: whether most of a step of each job is overhead, which a stack would pay once.
    """

    devices: list[str]
    threads: int
    halving: HalvingConfig = field(default_factory=HalvingConfig)
    shared: DataCache = field(default_factory=DataCache)
    light: bool = True
    used: tuple[int, int] = (1, 1)

    def settle(self, job: Job) -> None:
        """Sets the threads of a job that leaves them open, which it mutates."""
        if job.config.threads == "auto":
            job.config.threads = str(self.threads)
            job.stored["threads"] = self.threads

    def describe(self) -> str:
        """For the header."""
        places = ", ".join(dict.fromkeys(self.devices))
        plural = "s" if len(self.devices) > 1 else ""
        least, most = self.used
        threads = f"{least} to {most}" if least < most else str(most)
        return f"{len(self.devices)} worker{plural} on {places}, {threads} thread{'s'[: most > 1]} each"


def plan(jobs: Sequence[Job], settings: SweepConfig) -> Plan:
    """Divides the machine among workers; sets the threads of jobs that leave them open, which it mutates.

    Raises:
        UserError: a device that is not there.
    """
    torch.set_num_threads(1)  # before any arithmetic: jobs are forked from this process
    asked = {job.config.device for job in jobs}
    chosen = {name: device.choose(name) for name in asked}
    cores = device.cores()
    typed = [int(job.config.threads) for job in jobs if job.config.threads != "auto"]
    gpus = sorted({str(d) for name, d in chosen.items() if d.type != "cpu" and name != "auto"})
    if not gpus and "auto" in chosen and chosen["auto"].type != "cpu":
        gpus = device.accelerators()
    if settings.workers != "auto":
        number = int(settings.workers)
    else:
        number = len(gpus) or max(cores // max(typed, default=1), 1)
    number = min(number, len(jobs))
    devices = [gpus[i % len(gpus)] if gpus else "cpu" for i in range(number)]
    threads = max(cores // number, 1)
    made = Plan(devices, threads, settings.halving)
    for job in jobs:
        made.settle(job)
    used = [int(job.config.threads) for job in jobs]
    made.used = (min(used), max(used))
    return made


def validate(jobs: Sequence[Job], prepared: Plan, *, trusted: bool = True) -> None:
    """Builds one job of each kind, without a step, and tries optimizer and schedule of the others.

    What is read for it, the jobs find in `prepared.shared`.

    Raises:
        UserError: with the problems of all jobs, each told once.
    """
    # What users wrote runs in a process of its own: what it does to the process must not reach every job.
    own = [job for job in jobs if _is_ours(job)]
    foreign = [job for job in jobs if not _is_ours(job)]
    problems = dict.fromkeys(_problems(own, prepared, trusted))
    if foreign:
        prepared.light = False
        problems |= dict.fromkeys(run_in_subprocess(prepared.devices, _own_problems, foreign, prepared, trusted))
    if problems:
        raise UserError(*problems)


def _is_ours(job: Job) -> bool:
    return not own_targets(job)


def own_targets(job: Job) -> list[str]:
    """`part._target_=name` of each part that a user wrote."""
    targets = {part: getattr(job.config, part).target for part in GROUPS}
    return [
        f"{part}._target_={target}"
        for part, target in targets.items()
        if target is not None and str(target).partition(".")[0] not in OUR_MODULES
    ]


def _own_problems(jobs: Sequence[Job], prepared: Plan, trusted: bool) -> list[Problem]:
    """What is wrong with jobs that run what users wrote, which may raise anything, and sys.exit too."""
    found: list[Problem] = []
    for targets in dict.fromkeys(", ".join(own_targets(job)) for job in jobs):
        try:
            found += _problems([job for job in jobs if ", ".join(own_targets(job)) == targets], prepared, trusted)
        except (Exception, SystemExit) as error:
            found.append(Problem(targets, f"it cannot be built and tried: {raised_at(error)}"))
    return found


def _problems(jobs: Sequence[Job], prepared: Plan, trusted: bool) -> list[Problem]:
    problems: dict[Problem, None] = {}
    for job in jobs:
        problems |= dict.fromkeys(find_targets(job.config, GROUPS, trusted=trusted or job.config.trust)[1])
    if problems:
        return list(problems)
    kinds: dict[str, list[Job]] = {}
    for job in jobs:
        kinds.setdefault(kind(job), []).append(job)
    for alike in kinds.values():
        config = replace(alike[0].config, device="cpu", threads="1", compile=False)
        try:
            with StatusBar(lambda: None) as progress:
                parts = assemble(config, trusted=trusted or config.trust, cache=prepared.shared, progress=progress)
        except UserError as error:
            problems |= dict.fromkeys(error.problems)
            continue
        prepared.light = prepared.light and _is_light(parts.state.model, prepared.devices)
        steps = math.ceil(len(parts.train) / config.accumulate)
        problems |= dict.fromkeys(_unvalidated(config, steps, prepared.halving))
        others = {repr((job.config.optim, job.config.schedule)): job.config for job in alike[1:]}
        for other in others.values():
            try:
                _try_optimization(other, parts, steps, trusted=trusted or other.trust)
            except UserError as error:
                problems |= dict.fromkeys(error.problems)
    return list(problems)


def _try_optimization(config: Config, components: Components, steps: int, *, trusted: bool) -> None:
    """Build the optimizer and the schedule of a configuration over the model of another one."""
    targets = resolve_targets(config, ["optim", "schedule"], trusted=trusted)
    frozen_too = config.unfreeze_at is not None
    model, device = components.state.model, components.device
    optimizer = build_optimizer(config.optim, targets.optim, model, device, frozen_too=frozen_too)
    length = RunLength(config.epochs, steps, config.validate_every)
    build_schedule(config.schedule, targets.schedule, optimizer, length, config.monitor)


def _unvalidated(config: Config, steps: int, halving: HalvingConfig) -> list[Problem]:
    """A sentence where a job would come to its first rung without a value to compare; `steps` of an epoch."""
    every = Duration.parse(config.validate_every)
    epochs = every.amount if every.unit == "ep" else math.ceil(every.amount / steps)
    if halving.factor is None or epochs <= halving.min_epochs:
        return []
    reason = (
        f"no job is validated by then; expected at least {epochs}, as validate_every={config.validate_every} has it"
    )
    return [Problem("sweep.halving.min_epochs", reason, given=str(halving.min_epochs))]


def _is_light(model: nn.Module, devices: Sequence[str]) -> bool:
    """Whether it is small; convolutions on a CPU are not, however small."""
    convolutions = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return sum(p.numel() for p in model.parameters()) < LIGHT and not (convolutions and devices[0] == "cpu")


def kind(job: Job, harmless: Sequence[str] = HARMLESS) -> str:
    """The same for jobs that differ in harmless numbers alone."""

    def blind(key: str, value: Any) -> Any:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return "a number" if number and any(key == name or key.startswith(f"{name}.") for name in harmless) else value

    return json.dumps({key: blind(key, value) for key, value in leaves_of(job.stored)}, default=str)
