"""The plan of a sweep: how many jobs run at a time, on which devices, with how many threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from trainer import device
from trainer.config.job import Job
from trainer.config.sweep_keys import HalvingConfig, SweepConfig
from trainer.data.loader import DataCache


@dataclass(frozen=True)
class Plan:
    """Resources of a sweep, and what is shared by its jobs.

    Attributes:
        devices: one device name for each worker.
        threads: number of threads of a job that does not set `threads`.
        thread_range: minimum and maximum number of threads of a job.
        halving: settings of successive halving.
        shared: data that is read once for all jobs; filled by `validate`.
        light: whether most of the time of a training step is overhead, which a stack would pay once.
    """

    devices: list[str]
    threads: int
    thread_range: tuple[int, int]
    halving: HalvingConfig
    shared: DataCache = field(default_factory=DataCache)
    light: bool = True

    def set_threads(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs with `threads` set where the configuration leaves it open."""
        return [self._with_threads(job) if job.config.threads is None else job for job in jobs]

    def _with_threads(self, job: Job) -> Job:
        config = replace(job.config, threads=self.threads)
        return replace(job, config=config, stored={**job.stored, "threads": self.threads})

    def describe(self) -> str:
        """Describe the plan in one line."""
        devices = ", ".join(dict.fromkeys(self.devices))
        plural = "s" if len(self.devices) > 1 else ""
        least, most = self.thread_range
        threads = f"{least} to {most}" if least < most else str(most)
        return f"{len(self.devices)} worker{plural} on {devices}, {threads} thread{'s'[: most > 1]} each"


def make_plan(jobs: Sequence[Job], settings: SweepConfig) -> Plan:
    """Divide devices and cores among workers.

    Side effect: limits torch to one thread in this process, from which jobs are forked.

    Raises:
        UserError: a device is not available.
    """
    torch.set_num_threads(1)  # before any arithmetic; see trainer.processes
    chosen = {name: device.choose(name) for name in {job.config.device for job in jobs}}
    cores = device.cores()
    typed = [job.config.threads for job in jobs if job.config.threads is not None]
    gpus = sorted({str(d) for name, d in chosen.items() if d.type != "cpu" and name is not None})
    if not gpus and None in chosen and chosen[None].type != "cpu":
        gpus = device.accelerators()
    number = settings.workers or len(gpus) or max(cores // max(typed, default=1), 1)
    number = min(number, len(jobs))
    threads = max(cores // number, 1)
    used = typed + [threads] * (len(typed) < len(jobs))
    devices = [gpus[i % len(gpus)] if gpus else "cpu" for i in range(number)]
    return Plan(devices, threads, (min(used), max(used)), settings.halving)
