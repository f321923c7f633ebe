"""The state of a running sweep: ledger, jobs, settings and plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.config.job import Job
from trainer.config.sweep_keys import SweepConfig
from trainer.records.ledger import FINAL, Entry, Ledger
from trainer.sweeps.grid import identity, names
from trainer.sweeps.plan import Plan
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
        ledger: its open ledger.
        jobs: the jobs by number, like the ledger's entries.
        settings: the keys of `sweep`.
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

    def item(self, *entries: Entry, pause_at: int | None = None, test: bool = False) -> WorkItem:
        """Return the work item of a job, or of jobs that are trained in one pass; see WorkItem."""
        jobs = tuple(SweepJob(entry.number, self.jobs[entry.number], self.folder / entry.name) for entry in entries)
        folder = jobs[0].folder if len(jobs) == 1 else self.folder / f"stack-{jobs[0].number:03d}"
        return WorkItem(jobs, folder, self.trusted, pause_at, test)
