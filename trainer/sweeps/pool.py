"""A pool of processes that run work items and report what happens as events.

Each item runs in a process of its own, so that jobs cannot affect each other.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from trainer.data.loader import DataCache
from trainer.processes import context_for
from trainer.records.contents import make_folder
from trainer.run.results import versions
from trainer.signals import Signals, delayed
from trainer.sweeps.worker import POLL_SECONDS, WorkItem, work


@dataclass(frozen=True)
class JobStart:
    """An item is about to start; its process is created once this event has been handled."""

    item: WorkItem


@dataclass(frozen=True)
class JobExit:
    """An item's process has ended.

    Attributes:
        code: exit code of the process; the negative signal number if a signal killed it.
    """

    item: WorkItem
    code: int


@dataclass(frozen=True)
class Tick:
    """The processes were polled, which happens at least every `POLL_SECONDS` while items run."""

    running: tuple[WorkItem, ...]


Event = JobStart | JobExit | Tick


class WorkerPool:
    """A fixed number of processes at a time, each running one work item.

    Args:
        devices: one device name for each worker.
        command: the command line as typed, stored in each results.json.
        shared: data that forked workers inherit.

    Attributes:
        stopped: set it to start no further items; running items then receive SIGTERM, save and exit.
    """

    def __init__(self, devices: Sequence[str], command: list[str], shared: DataCache) -> None:
        self.devices, self.command, self.shared = list(devices), command, shared
        self.context = context_for(devices)
        self.running: dict[BaseProcess, tuple[WorkItem, str]] = {}
        self.stopped = False
        if self.context.get_start_method() == "fork":
            versions()  # forked workers inherit the cached result

    def run(self, items: Iterable[WorkItem], signals: Signals) -> Generator[Event]:
        """Run items and yield events until the last process has ended.

        Wrap the generator in `contextlib.closing`: closing it early, as an exception of its consumer does, kills the
        running processes.

        Args:
            items: consumed lazily: the next one is taken when a worker is free.
            signals: signals that this process has received; any stops the pool.

        Raises:
            UserError: the folder of an item cannot be created.
            RunFailed: the disk is full.
        """
        waiting, free, terminated = iter(items), list(reversed(self.devices)), False
        gc.freeze()  # a collection in a forked worker would copy every page that it inherits
        try:
            while True:
                while free and not self.stopped and signals.received is None:
                    item = next(waiting, None)
                    if item is None:
                        break
                    yield JobStart(item)
                    self._start(item, free.pop())
                if not self.running:
                    return
                for process in self._ended():
                    item, device = self.running.pop(process)
                    free.append(device)
                    yield JobExit(item, process.exitcode or 0)
                if (self.stopped or signals.received is not None) and not terminated:
                    terminated = True
                    for process in self.running:
                        process.terminate()
                yield Tick(tuple(item for item, _ in self.running.values()))
        finally:
            gc.unfreeze()
            for process in self.running:
                process.kill()

    def _ended(self) -> list[BaseProcess]:
        """Wait up to `POLL_SECONDS`; return the processes that have ended, joined."""
        ready = wait([process.sentinel for process in self.running], timeout=POLL_SECONDS)
        ended = [process for process in self.running if process.sentinel in ready]
        for process in ended:
            process.join()
        return ended

    def _start(self, item: WorkItem, device: str) -> None:
        for folder in (item.folder, *(job.folder for job in item.jobs)):
            make_folder(folder)
        parent = os.getpid() if self.context.get_start_method() == "fork" else None
        arguments = (item, device, self.command, self.shared, parent)
        process = self.context.Process(target=work, args=arguments)  # type: ignore[attr-defined]
        with delayed():  # else a signal in the first moments would reach this process's handler in the child
            process.start()
        self.running[process] = (item, device)
