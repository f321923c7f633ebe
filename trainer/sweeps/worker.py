"""Worker process of a sweep: run one work item and write the results to the jobs' folders."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.config.job import Job
from trainer.data.loader import DataCache
from trainer.errors import RunFailed, UserError, out_of_memory
from trainer.records.folder import is_running
from trainer.records.results import Results, results_or_failure, write_results
from trainer.report.output import redirect
from trainer.run.command import Command
from trainer.run.execute import SweepContext, execute
from trainer.signals import restore_defaults

POLL_SECONDS = 0.25
PATIENCE_SECONDS = 60.0  # for workers of an earlier, killed sweep that are still saving


@dataclass(frozen=True)
class SweepJob:
    """A job with its number in the sweep and its run folder."""

    number: int
    job: Job
    folder: Path


@dataclass(frozen=True)
class WorkItem:
    """Work for one process: train or test one job, or train the jobs of a stack in one pass.

    Attributes:
        jobs: one job, or all jobs of a stack.
        folder: folder of the log and, for a stack, of its checkpoints and metrics.
        trusted: whether the configurations may name code other than this program's.
        pause_at: epoch after which training pauses; None trains to the end.
        test: whether to test the best weights and draw the plots if the configuration leaves it open.
    """

    jobs: tuple[SweepJob, ...]
    folder: Path
    trusted: bool
    pause_at: int | None = None
    test: bool = False

    @property
    def number(self) -> int:
        """Number of the first job."""
        return self.jobs[0].number


def work(item: WorkItem, device: str | None, command: list[str], shared: DataCache, parent: int | None) -> None:
    """Run an item as the main function of a worker process.

    Args:
        item: the work item.
        device: device name.
        command: the command line as typed.
        shared: data that was read before the fork; empty if this process was not forked from the sweep.
        parent: process id of the sweep if this process was forked from it.
    """
    started = time.perf_counter()
    os.setpgid(0, 0)  # Ctrl-C reaches the sweep alone, which then terminates its workers
    restore_defaults()
    exit_with(parent or os.getppid())  # the sweep may already be gone when this line is reached
    try:
        redirect(item.folder / "train.log")
    except (UserError, RunFailed) as error:
        _write_failures(item, str(error))
        sys.exit(1)
    try:
        code = run_item(item, device, Command(command, started), shared)
    finally:
        sys.stdout.flush()
    sys.exit(code)


def run_item(item: WorkItem, device: str | None, command: Command, shared: DataCache) -> int:
    """Run an item in this process and return its exit code; errors are written to the jobs' results.json."""
    jobs = [(_configured(job.job, device, test=item.test), job.folder) for job in item.jobs]
    try:
        for _, folder in jobs:
            wait_for(folder)
        sweep = SweepContext(item.folder, item.trusted, item.pause_at, shared)
        if len(jobs) > 1:
            from trainer.stack import group

            return group.execute(jobs, sweep, command)
        [(job, _)] = jobs
        return execute(job, command, sweep=sweep).exit_code
    except (UserError, RunFailed) as error:
        _write_failures(item, str(error))
    except BaseException as error:  # including sys.exit in a user's code: the sweep reports it and goes on
        traceback.print_exc()
        _write_failures(item, out_of_memory(error) or f"{type(error).__name__}: {error}")
    return 1


def _configured(job: Job, device: str | None, *, test: bool) -> Job:
    """Return the job on this device, with `test` and `plots` decided where the configuration leaves them open."""
    test_key, plots = (test if value is None else value for value in (job.config.test, job.config.plots))
    return replace(job, config=replace(job.config, device=device, test=test_key, plots=plots))


def exit_with(parent: int) -> None:
    """Terminate this process gracefully once the sweep's process is gone, even after SIGKILL."""

    def poll() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=poll, daemon=True).start()


def wait_for(folder: Path) -> None:
    """Wait until no process uses a run folder: a worker of a killed sweep may still be saving."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while is_running(folder) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _write_failures(item: WorkItem, reason: str) -> None:
    for job in item.jobs:
        finished = len(item.jobs) > 1 and results_or_failure(job.folder) is not None  # before the others of its stack
        if not finished:
            write_results(job.folder, Results.failed(reason))
