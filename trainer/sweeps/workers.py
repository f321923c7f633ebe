"""Processes that run jobs: each job in one of its own, so that nothing of one reaches another."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from trainer.config.compose import Job
from trainer.data.loader import DataCache
from trainer.errors import RunFailed, UserError
from trainer.processes import context_for
from trainer.records.folder import is_running
from trainer.records.results import Results, read_results, write_results
from trainer.run.execute import SweepContext, execute
from trainer.run.results import versions
from trainer.run.run import Command
from trainer.signals import Signals

LOOK_SECONDS = 0.25
PATIENCE_SECONDS = 60.0  # for what an earlier, killed sweep left running


@dataclass(frozen=True)
class Task:
    """A job to run, or to go on with.

    Attributes:
        pause_at: epochs after which it stops for now.
        test: test its best weights and draw its pictures.
        members: the jobs of a stack, whose task this is; its number and its job are those of the first.
    """

    number: int
    job: Job
    place: Path
    trusted: bool = True
    pause_at: int | None = None
    test: bool = False
    members: tuple[Task, ...] = ()

    @property
    def each(self) -> tuple[Task, ...]:
        """The tasks of single jobs."""
        return self.members or (self,)


@dataclass(frozen=True)
class JobExit:
    """How a task's process came to its end."""

    task: Task
    code: int

    @property
    def stopped(self) -> bool:
        """Whether it ended because it was asked to."""
        asked = (signal.SIGINT, signal.SIGTERM)
        return self.code in [128 + number for number in asked] + [-number for number in asked]

    @property
    def death(self) -> str:
        """What killed the process; empty where it came to its end by itself."""
        if self.code >= 0:
            return ""
        name = signal.Signals(-self.code).name
        return f"killed by {name}" + (" (out of memory?)" if self.code == -signal.SIGKILL else "")


class Workers:
    """Runs tasks, so many at a time.

    Args:
        devices: one for each worker.
        command: what the user typed, for results.json.
    """

    def __init__(self, devices: Sequence[str], command: list[str], shared: DataCache) -> None:
        self.devices, self.command, self.shared = list(devices), command, shared
        self.context = context_for(devices)
        self.running: dict[BaseProcess, tuple[Task, str]] = {}
        if self.context.get_start_method() == "fork":
            versions()  # found once, not by each job

    def run(
        self,
        tasks: Iterable[Task],
        signals: Signals,
        started: Callable[[Task], None],
        ended: Callable[[JobExit], bool],
        look: Callable[[list[Task]], None],
    ) -> None:
        """Runs all tasks; returns when the last one has ended, or, after a signal, when all have saved.

        Args:
            tasks: taken from only when a worker is free.
            ended: told of each task's end; whether to go on with further ones.
            look: called a few times a second with what runs.
        """
        waiting, going_on, told = iter(tasks), True, False
        free = list(reversed(self.devices))
        gc.freeze()  # a collection in a forked job would copy every page of what it inherits
        try:
            while True:
                while going_on and free and signals.received is None:
                    task = next(waiting, None)
                    if task is None:
                        break
                    started(task)
                    self._start(task, free.pop())
                if not self.running:
                    return
                for process in self._finished():
                    task, device = self.running.pop(process)
                    free.append(device)
                    going_on = ended(JobExit(task, process.exitcode or 0)) and going_on
                if (signals.received is not None or not going_on) and not told:
                    told = True
                    self._tell(signal.SIGTERM)
                look([task for task, _ in self.running.values()])
        finally:
            gc.unfreeze()
            self._tell(signal.SIGKILL)  # only where something went wrong here is there one left

    def _finished(self) -> list[BaseProcess]:
        ready = wait([process.sentinel for process in self.running], timeout=LOOK_SECONDS)
        done = [process for process in self.running if process.sentinel in ready]
        for process in done:
            process.join()
        return done

    def _tell(self, number: signal.Signals) -> None:
        for process in self.running:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    def _start(self, task: Task, device: str) -> None:
        for place in (task.place, *(member.place for member in task.members)):
            try:
                place.mkdir(exist_ok=True)
            except OSError as error:
                raise RunFailed(f"{place}: could not be made ({error.strerror}).") from error
        parent = os.getpid() if self.context.get_start_method() == "fork" else None
        process = self.context.Process(  # type: ignore[attr-defined]
            target=_work, args=(task, device, self.command, self.shared, parent)
        )
        process.start()
        self.running[process] = (task, device)


def _work(task: Task, device: str, command: list[str], shared: DataCache, parent: int | None) -> None:
    """The life of a worker process."""
    started = time.perf_counter()
    os.setpgid(0, 0)  # Ctrl-C is for the sweep, which then tells its workers
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    _watch(parent or os.getppid())  # the sweep may be gone before this line is reached
    log = os.open(task.place / "train.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        code = run_task(task, device, command, shared, started)
    finally:
        sys.stdout.flush()
    sys.exit(code)


def run_task(task: Task, device: str, command: list[str], shared: DataCache, started: float | None = None) -> int:
    """Runs a task in this process; returns its exit code. What goes wrong stands in the job's results.json."""
    for single in task.each:
        config = single.job.config
        config.device = device
        for key in ("test", "plots"):
            if getattr(config, key) == "auto":
                setattr(config, key, "true" if task.test else "false")
    started = started or time.perf_counter()
    try:
        for single in task.each:
            wait_for(single.place)
        sweep = SweepContext(task.place, task.trusted, task.pause_at, shared)
        if task.members:
            from trainer.stack import group

            jobs = [(single.job, single.place) for single in task.members]
            return group.execute(jobs, sweep, Command(command, started))
        return execute(task.job, Command(command, started), sweep=sweep)
    except (UserError, RunFailed) as error:
        _failed(task, str(error))
    except BaseException as error:  # also sys.exit in a user's own code: the sweep tells of it and goes on
        traceback.print_exc()
        _failed(task, f"{type(error).__name__}: {error}")
    return 1


def _watch(parent: int) -> None:
    """Ends this process in good order when the sweep's is gone, also by signal 9."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, daemon=True).start()


def wait_for(place: Path) -> None:
    """A worker of a killed sweep may still be saving; it ends by itself."""
    until = time.monotonic() + PATIENCE_SECONDS
    while is_running(place) and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)


def _failed(task: Task, reason: str) -> None:
    for single in task.each:
        if not task.members or read_results(single.place) is None:  # of a stack some may have come to their end
            write_results(single.place, Results.failed(reason))
