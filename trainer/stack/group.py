"""Jobs of a sweep trained as one: built, stacked where their shapes agree, and each ended like a single run."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.components.assemble import Components, assemble
from trainer.config.compose import Job
from trainer.config.schema import Config
from trainer.data.batches import Batches, StackedBatches
from trainer.data.loader import DataCache
from trainer.data.metrics import DIRECTIONS
from trainer.errors import RunFailed, UserError
from trainer.records.folder import RunFolder
from trainer.records.metrics import MetricsRow
from trainer.records.results import Results, write_results
from trainer.records.table import Table
from trainer.run.run import Run, SweepContext, describe, restore
from trainer.signals import Signals
from trainer.stack.checkpoint import StackSaver
from trainer.stack.compatible import stack_signature
from trainer.stack.population import StackedRuns
from trainer.training import checkpoint
from trainer.training.checkpoint import Saver
from trainer.training.loop import Fit
from trainer.training.population import Population
from trainer.training.state import RunState
from trainer.training.stopping import Outcome

FILES_EACH, FILES_BESIDE = 2, 128  # that a run holds open, and its process


@dataclass
class Member:
    """A job on its way through a stack.

    Attributes:
        since: rows of metrics.csv that it brought along, which its log has as well.
    """

    job: Job
    parts: Components
    folder: RunFolder
    about: dict[str, Any]
    resumed: bool
    since: int

    @property
    def config(self) -> Config:
        return self.parts.config


def data_key(config: Config) -> tuple[Any, ...]:
    """Equal for jobs of a stack that train on the same samples in the same order."""
    seed = config.seed if config.data.seed is None else config.data.seed
    return seed, config.data.fold


class Builder:
    """Builds the parts of jobs, the same data read once.

    Args:
        jobs: all that are to be built.
    """

    def __init__(self, jobs: Sequence[Job], *, trusted: bool, shared: DataCache | None) -> None:
        self.trusted, self.shared = trusted, shared
        self.sharing = len({data_key(job.config) for job in jobs})
        self.known: dict[tuple[Any, ...], Components] = {}

    def build(self, job: Job, folder: RunFolder | None = None) -> tuple[Components, bool]:
        """The parts of a job, and whether they were restored from a checkpoint in its folder.

        Raises:
            UserError: as `assemble` does.
            RunFailed: its checkpoints are damaged.
        """
        saved, _ = checkpoint.load_newest(folder.checkpoints) if folder else (None, [])
        key = data_key(job.config)
        parts = assemble(
            job.config,
            trusted=self.trusted,
            saved=saved,
            shared=self.shared,
            like=self.known.get(key),
            sharing=self.sharing,
        )
        self.known.setdefault(key, parts)
        if saved:
            restore(parts, saved, job.config)
        return parts, saved is not None


def stacked(parts: Sequence[Components]) -> tuple[Population, Batches, Batches]:
    """The population of these runs, which are alike, and its batches for training and validation.

    The runs come in the order of `parts`; it is best if like stands beside like.
    """
    if len(parts) == 1:
        return parts[0].population, parts[0].train, parts[0].valid
    sources = {data_key(p.config): p for p in reversed(parts)}
    members = [p.population for p in parts]
    if len(sources) == 1:
        return StackedRuns(members), parts[0].train, parts[0].valid
    place = {key: row for row, key in enumerate(sources)}
    population = StackedRuns(members, [place[data_key(p.config)] for p in parts])
    train = StackedBatches([p.train for p in sources.values()])
    return population, train, StackedBatches([p.valid for p in sources.values()])


def execute(jobs: Sequence[tuple[Job, Path]], sweep: SweepContext, *, command: list[str], started: float) -> int:
    """Trains these jobs, whose folders are there, in one pass where they can be; returns the exit code.

    Args:
        sweep: its place is the stack's own, for what it needs while it runs.

    A job that cannot be built fails by itself.

    Raises:
        RunFailed: the runs could not go on.
    """
    _allow_files(len(jobs))
    with Signals() as signals, ExitStack() as stack:
        folders = [stack.enter_context(closing(RunFolder(path))) for _, path in jobs]
        builder = Builder([job for job, _ in jobs], trusted=sweep.trusted, shared=sweep.shared)
        members = []
        for (job, _), folder in zip(jobs, folders, strict=True):
            try:
                parts, resumed = builder.build(job, folder)
            except (UserError, RunFailed) as error:  # of this job: the others have their own
                write_results(folder.path, Results.failed(str(error)))
                continue
            members.append(Member(job, parts, folder, describe(job, parts, folder), resumed, _told(folder)))
            if signals.received is not None:  # before there was anything to save
                return signals.exit_code
        for some in alike(members):
            _train(some, sweep, signals, command, started)
    return 0 if signals.received is None else signals.exit_code


def _told(folder: RunFolder) -> int:
    """Rows that a run's metrics.csv has; what only a stack's checkpoint has is still to be told."""
    path = folder.path / "metrics.csv"
    return len(path.read_bytes().splitlines()) - 1 if path.exists() else 0


def alike(members: Sequence[Member]) -> list[list[Member]]:
    """Those that can be stacked together, those with equal optimizers beside each other."""
    groups: list[tuple[Any, list[Member]]] = []
    for member in members:
        key = stack_signature(member.parts)
        group = next((group for known, group in groups if known == key), None)
        if group is None:
            groups.append((key, [member]))
        else:
            group.append(member)
    for _, group in groups:
        group.sort(key=lambda member: repr((member.config.optim, member.config.loss)))
    return [group for _, group in groups]


def _train(
    members: Sequence[Member], sweep: SweepContext, signals: Signals, command: list[str], started: float
) -> None:
    """Trains some that are alike, and ends each as a run of its own."""
    population, train, valid = stacked([member.parts for member in members])
    savers = {
        member.parts.state: Saver(member.folder.checkpoints, member.config.checkpoint.every, member.about)
        for member in members
    }
    journal, saver = Progress(sweep.place, members[0].config.monitor), StackSaver(sweep.place, savers)
    setup = (time.perf_counter() - started) / len(members)
    outcomes = Fit(population, train, valid, saver, journal, signals, sweep.pause_at).run()
    journal.close()
    for member, outcome in zip(members, outcomes, strict=True):
        _conclude(member, outcome, journal.bests, signals, command, setup)
    saver.close()


def _conclude(
    member: Member, outcome: Outcome, bests: set[int], signals: Signals, command: list[str], setup: float
) -> None:
    """What a single run writes, from a run that was trained among others."""
    state = member.parts.state
    run = Run(
        member.job,
        member.parts,
        member.folder,
        signals,
        command=command,
        started=time.perf_counter() - setup,
        resumed=member.resumed,
        in_sweep=True,
        about=member.about,
    )

    def told() -> Outcome:
        for row in state.history[member.since :]:
            run.console.row(row, id(row) in bests)
            if run.tracker is not None:
                run.tracker.row(row)
        return outcome

    with closing(run.console):
        run.run(told)


class Progress:
    """A stack's own metrics.csv: a row for each validation, with the best of its runs.

    Attributes:
        bests: ids of the rows that were the best of their run when they came.
    """

    def __init__(self, place: Path, monitor: str) -> None:
        self.monitor = monitor
        self.better = max if DIRECTIONS[monitor] == "max" else min
        self.table = Table(place / "metrics.csv", ["epoch", "step", "runs", monitor])
        self.bests: set[int] = set()
        self.rows: list[MetricsRow] = []

    def begin(self, state: RunState, done: int, total: int) -> None: ...

    def advance(self, state: RunState, batches: int, samples: int) -> None:
        self._tell()

    def row(self, row: MetricsRow, best: bool) -> None:
        self.rows.append(row)
        if best:
            self.bests.add(id(row))

    def _tell(self) -> None:
        if not self.rows:
            return
        values = [value for row in self.rows if (value := row[self.monitor]) is not None]
        first = {"epoch": self.rows[0].epoch, "step": self.rows[0].step, "runs": len(self.rows)}
        self.table.add({**first, self.monitor: self.better(values, default=None)})
        self.rows = []

    def close(self) -> None:
        self._tell()
        self.table.close()


def most_files() -> int:
    """How many runs at a time can have their files open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return sys.maxsize if hard == resource.RLIM_INFINITY else (hard - FILES_BESIDE) // FILES_EACH


def _allow_files(number: int) -> None:
    """Raises this process's limit of open files, where it is lower and may be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_EACH * number + FILES_BESIDE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
