"""The state of a running sweep: ledger, jobs, settings and plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.config.job import Job
from trainer.config.keys import SweepConfig
from trainer.records.ledger import FINAL, Entry, Ledger
from trainer.sweeps.grid import identity, names
from trainer.sweeps.plan import Plan
from trainer.sweeps.pool import WorkerPool
from trainer.sweeps.worker import SweepJob, WorkItem


def new_entries(jobs: Iterable[Job], varies: Sequence[Mapping[str, object]], start: int = 0) -> list[Entry]:
    """Return ledger entries for new jobs.

    Args:
        jobs: the jobs.
        varies: for each job the keys and values that set it apart.
        start: number of the first job.
    """
    return [
        Entry(number, job.id or identity(job), name, dict(varying), job.stored, job.choices, job.overrides)
        for number, (job, name, varying) in enumerate(zip(jobs, names(varies, start), varies, strict=True), start)
    ]


@dataclass
class Sweep:
    """A sweep that is about to run or running.

    Attributes:
        jobs: the jobs by number, like the ledger's entries.
        plan: devices and threads; None if all jobs have finished.
        command: the command line as typed.
        trusted: whether the jobs may name code other than this program's.
    """

    ledger: Ledger
    jobs: list[Job]
    settings: SweepConfig
    plan: Plan | None
    command: list[str]
    trusted: bool

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return self.ledger.folder

    def unfinished(self) -> list[Entry]:
        """Return the entries of the jobs that a resume would run."""
        return [entry for entry in self.ledger.entries if entry.state not in FINAL]

    def add(self, job: Job, varies: Mapping[str, object]) -> Entry:
        """Add a job to the ledger and return its entry."""
        [entry] = new_entries([job], [varies], start=len(self.jobs))
        self.jobs.append(job)
        self.ledger.add([entry])
        return entry

    def item(self, entry: Entry, pause_at: int | None = None, *, test: bool = False) -> WorkItem:
        """Return the work item of a single job.

        Args:
            entry: ledger entry of the job.
            pause_at: epoch after which training pauses, if the job has more epochs than that.
            test: see WorkItem.
        """
        if pause_at is not None and pause_at >= self.jobs[entry.number].config.epochs:
            pause_at = None
        job = self._job(entry)
        return WorkItem((job,), job.folder, self.trusted, pause_at, test)

    def stack_item(self, entries: Sequence[Entry], pause_at: int | None) -> WorkItem:
        """Return the work item of jobs that are trained in one pass."""
        jobs = tuple(self._job(entry) for entry in entries)
        return WorkItem(jobs, self.folder / f"stack-{jobs[0].number:03d}", self.trusted, pause_at)

    def _job(self, entry: Entry) -> SweepJob:
        return SweepJob(entry.number, self.jobs[entry.number], self.folder / entry.name)

    def pool(self, plan: Plan) -> WorkerPool:
        """Return an idle pool of workers."""
        return WorkerPool(plan.devices, self.command, plan.shared)
