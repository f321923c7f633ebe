"""Jobs of a sweep trained as one: built, stacked where their shapes agree, and each ended like a single run."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import checkpoint
from trainer.assemble import Parts, assemble
from trainer.checkpoint import Saver
from trainer.compose import Job
from trainer.config import DIRECTIONS, Config
from trainer.data.batches import Batches
from trainer.data.loading import Shared
from trainer.data.together import BatchesTogether
from trainer.folder import RunFolder, Table
from trainer.loop import Fit
from trainer.population import Population
from trainer.run import InSweep, Run, describe, restore
from trainer.signals import Signals
from trainer.stack.files import StackSaver
from trainer.stack.population import Stacked
from trainer.state import RunState
from trainer.stopping import Outcome

FILES_EACH, FILES_BESIDE = 2, 128  # that a run holds open, and its process


@dataclass
class Member:
    """A job on its way through a stack.

    Attributes:
        since: rows of metrics.csv that it brought along, which its log has as well.
    """

    job: Job
    parts: Parts
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


def build(
    jobs: Sequence[tuple[Job, RunFolder | None]], *, trusted: bool, shared: Shared | None
) -> Iterator[tuple[Parts, dict[str, Any] | None]]:
    """The parts of each job, and the checkpoint they were restored from; the same data is read once.

    Raises:
        UserError: as `assemble` does.
    """
    known: dict[tuple[Any, ...], Parts] = {}
    sharing = len({data_key(job.config) for job, _ in jobs})
    for job, folder in jobs:
        saved, _ = checkpoint.load_newest(folder.checkpoints) if folder else (None, [])
        like = known.get(data_key(job.config))
        parts = assemble(job.config, trusted=trusted, saved=saved, shared=shared, like=like, sharing=sharing)
        known.setdefault(data_key(job.config), parts)
        if saved:
            restore(parts, saved, job.config)
        yield parts, saved


def shapes(parts: Parts) -> tuple[Any, ...]:
    """Equal for runs that can be stacked: the same layers, tensors, batches and moment."""
    model, state = parts.state.model, parts.state
    return (
        state.step,
        [(name, type(module)) for name, module in model.named_modules()],
        [(name, tensor.shape, tensor.dtype) for name, tensor in (*model.named_parameters(), *model.named_buffers())],
        (parts.train.sizes, parts.valid.sizes),
    )


def stacked(parts: Sequence[Parts]) -> tuple[Population, Batches, Batches]:
    """The population of these runs, which have the same shapes, and its batches for training and validation.

    The runs come in the order of `parts`; it is best if like stands beside like.
    """
    if len(parts) == 1:
        return parts[0].population, parts[0].train, parts[0].valid
    sources = {data_key(p.config): p for p in reversed(parts)}
    members = [p.population for p in parts]
    if len(sources) == 1:
        return Stacked(members), parts[0].train, parts[0].valid
    place = {key: row for row, key in enumerate(sources)}
    population = Stacked(members, [place[data_key(p.config)] for p in parts])
    train = BatchesTogether([p.train for p in sources.values()])
    return population, train, BatchesTogether([p.valid for p in sources.values()])


def execute(jobs: Sequence[tuple[Job, Path]], sweep: InSweep, *, command: list[str], started: float) -> int:
    """Trains these jobs, whose folders are there, in one pass where they can be; returns the exit code.

    Args:
        sweep: its place is the stack's own, for what it needs while it runs.

    Raises:
        UserError: a job cannot be built.
        RunFailed: the runs could not go on.
    """
    _allow_files(len(jobs))
    with Signals() as signals, ExitStack() as stack:
        folders = [stack.enter_context(closing(RunFolder(path))) for _, path in jobs]
        pairs = list(zip((job for job, _ in jobs), folders, strict=True))
        members = []
        for (job, folder), (parts, saved) in zip(
            pairs, build(pairs, trusted=sweep.trusted, shared=sweep.shared), strict=True
        ):
            about = describe(job, parts, folder)
            members.append(Member(job, parts, folder, about, saved is not None, _told(folder)))
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
        key = shapes(member.parts)
        group = next((group for known, group in groups if known == key), None)
        if group is None:
            groups.append((key, [member]))
        else:
            group.append(member)
    for _, group in groups:
        group.sort(key=lambda member: repr((member.config.optim, member.config.loss)))
    return [group for _, group in groups]


def _train(members: Sequence[Member], sweep: InSweep, signals: Signals, command: list[str], started: float) -> None:
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
        self.rows: list[dict[str, Any]] = []

    def begin(self, state: RunState, done: int, total: int) -> None: ...

    def advance(self, state: RunState, batches: int, samples: int) -> None:
        self._tell()

    def row(self, row: dict[str, Any], best: bool) -> None:
        self.rows.append(row)
        if best:
            self.bests.add(id(row))

    def _tell(self) -> None:
        if not self.rows:
            return
        values = [row[self.monitor] for row in self.rows if row[self.monitor] is not None]
        told = {name: self.rows[0][name] for name in ("epoch", "step")}
        self.table.add({**told, "runs": len(self.rows), self.monitor: self.better(values, default=None)})
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
