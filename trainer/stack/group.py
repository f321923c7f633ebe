"""Jobs of a sweep trained as one: built, stacked where compatible, and each finished like a single run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from trainer.config.job import Job
from trainer.errors import RunFailed, UserError
from trainer.files import read_limited
from trainer.records.contents import exists
from trainer.records.folder import RunFolder
from trainer.records.metrics import LARGEST_BYTES
from trainer.records.results import Results, write_results
from trainer.run.command import Command
from trainer.run.execute import SweepContext
from trainer.run.run import Run
from trainer.signals import Signals
from trainer.stack.build import Builder, stacked
from trainer.stack.checkpoint import StackSaver
from trainer.stack.compatible import grouped, stack_signature
from trainer.stack.progress import Progress, allow_files
from trainer.training.loop import fit


def execute(jobs: Sequence[tuple[Job, Path]], sweep: SweepContext, command: Command) -> int:
    """Train jobs in one pass where they can be stacked, and return the exit code.

    A job that cannot be built fails by itself.

    Args:
        jobs: each job and its folder, which exists already.
        sweep: settings of the sweep; the folder is the stack's own.
        command: how the program was started.

    Raises:
        RunFailed: the runs could not continue.
    """
    allow_files(len(jobs))
    with Signals() as signals, ExitStack() as stack:
        folders = [stack.enter_context(closing(RunFolder(path))) for _, path in jobs]
        builder = Builder([job for job, _ in jobs], trusted=sweep.trusted, shared=sweep.shared)
        runs: list[Run] = []
        for (job, _), folder in zip(jobs, folders, strict=True):
            try:
                components, resumed = builder.build(job, folder)
            except (UserError, RunFailed) as error:  # the other jobs are built nevertheless
                write_results(folder.path, Results.failed(str(error)))
                continue
            runs.append(Run(job, components, folder, command, resumed=resumed, in_sweep=True))
            if signals.received is not None:  # there is nothing to save yet
                return signals.exit_code
        setup = time.perf_counter() - command.started  # before any training, which is not setup of the next group
        for group in alike(runs):
            _train(group, sweep, signals, setup / len(runs))
    return 0 if signals.received is None else signals.exit_code


def alike(runs: Sequence[Run]) -> list[list[Run]]:
    """Return groups of runs that can be stacked, those with equal optimizers and losses side by side."""
    groups = grouped(runs, lambda run: stack_signature(run.components))
    return [sorted(group, key=lambda run: repr((run.config.optim, run.config.loss))) for group in groups]


def _train(runs: Sequence[Run], sweep: SweepContext, signals: Signals, setup: float) -> None:
    """Train runs that can be stacked, and finish each as a run of its own; `setup` is the seconds each took before."""
    population, data = stacked([run.components for run in runs])
    saver = StackSaver(sweep.folder, {run.state: run.saver() for run in runs})
    journal = Progress(sweep.folder, runs[0].config.monitor, runs[0].config.direction)
    outcomes = fit(population, data, saver, journal, signals, sweep.pause_at)
    journal.close()
    for run, outcome in zip(runs, outcomes, strict=True):
        with run:
            logged = _logged_rows(run.folder)
            run.begin(setup)
            run.replay(logged, journal.best)
            run.finish(outcome, signals)
    saver.close()


def _logged_rows(folder: RunFolder) -> int:
    """Return the rows in a run's metrics.csv, which train.log has too; those after them are reported at the end."""
    path = folder.path / "metrics.csv"
    return len(read_limited(path, LARGEST_BYTES).splitlines()) - 1 if exists(path) else 0
