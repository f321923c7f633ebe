"""Before the first job of a sweep starts: how many at a time, on what, and whether each can run at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any

import torch

from trainer import device
from trainer.assemble import assemble
from trainer.compose import Job
from trainer.config import PARTS
from trainer.data.load import Shared
from trainer.errors import RunFailed, UserError
from trainer.keys import SweepConfig
from trainer.processes import context_for
from trainer.report.console import Waiting
from trainer.targets import OUR_MODULES, check
from trainer.tree import leaves_of


@dataclass
class Plan:
    """How jobs are run.

    Attributes:
        devices: one for each worker.
        threads: of each job that leaves them open.
        shared: the data, read once.
    """

    devices: list[str]
    threads: int
    shared: Shared = field(default_factory=Shared)

    def settle(self, job: Job) -> None:
        """Sets the threads of a job that leaves them open, which it mutates."""
        if job.config.threads == "auto":
            job.config.threads = str(self.threads)
            job.stored["threads"] = self.threads

    def describe(self) -> str:
        """For the header."""
        places = ", ".join(dict.fromkeys(self.devices))
        plural = "s" if len(self.devices) > 1 else ""
        return f"{len(self.devices)} worker{plural} on {places}, {self.threads} thread{'s'[: self.threads > 1]} each"


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
    made = Plan(devices, threads)
    for job in jobs:
        made.settle(job)
    return made


def validate(jobs: Sequence[Job], prepared: Plan, *, trusted: bool = True) -> None:
    """Builds one job of each kind, without a step; jobs of one kind differ in numbers alone.

    What is read for it, the jobs find in `prepared.shared`.

    Raises:
        UserError: with the problems of all jobs, each told once.
    """
    # What users wrote runs in a process of its own: what it does to the process must not reach every job.
    own = [job for job in jobs if _is_ours(job)]
    foreign = [job for job in jobs if not _is_ours(job)]
    problems = dict.fromkeys(_problems(own, prepared.shared, trusted))
    if foreign:
        context = context_for(prepared.devices)
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(  # type: ignore[attr-defined]
            target=_answer, args=(theirs, foreign, prepared.shared, trusted)
        )
        child.start()
        theirs.close()
        try:
            problems |= dict.fromkeys(ours.recv())
        except EOFError:
            child.join()
            raise RunFailed(
                f"the jobs could not be looked at: the process ended with exit code {child.exitcode}."
            ) from None
        child.join()
    if problems:
        raise UserError(*problems)


def _is_ours(job: Job) -> bool:
    targets = [getattr(job.config, part).target for part in PARTS]
    return all(target is None or str(target).partition(".")[0] in OUR_MODULES for target in targets)


def _answer(pipe: Connection, jobs: Sequence[Job], shared: Shared, trusted: bool) -> None:
    pipe.send(_problems(jobs, shared, trusted))


def _problems(jobs: Sequence[Job], shared: Shared, trusted: bool) -> list[str]:
    problems: dict[str, None] = {}
    for job in jobs:
        problems |= dict.fromkeys(check(job.config, PARTS, trusted=trusted or job.config.trust))
    if problems:
        return list(problems)
    for example in {kind(job): job for job in reversed(jobs)}.values():
        config = replace(example.config, device="cpu", threads="1", compile=False)
        try:
            with Waiting(lambda: None) as progress:
                assemble(config, trusted=trusted or config.trust, shared=shared, progress=progress)
        except UserError as error:
            problems |= dict.fromkeys(error.problems)
    return list(problems)


def kind(job: Job) -> str:
    """The same for jobs that differ in numbers alone."""

    def blind(value: Any) -> Any:
        return "a number" if isinstance(value, (int, float)) and not isinstance(value, bool) else value

    return json.dumps({key: blind(value) for key, value in leaves_of(job.stored)}, default=str)
