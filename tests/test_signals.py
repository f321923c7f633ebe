"""SIGINT, SIGTERM and SIGHUP: set a flag, end a process the second time, and reach the right processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.faulty_models import write, write_counting
from trainer import signals
from trainer.config.compose import Composer
from trainer.data.loader import DataCache
from trainer.errors import RunFailed
from trainer.processes import is_interrupted, run_in_subprocess
from trainer.signals import Interrupted, Signals
from trainer.sweeps.pool import WorkerPool
from trainer.sweeps.worker import SweepJob, WorkItem

CPU = ["cpu"]


@pytest.fixture(autouse=True)
def _no_nohup() -> Iterator[None]:
    """Let hangups count, also if the tests themselves were started by `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def received(*numbers: int) -> int:
    """Return the exit code after these signals."""
    with Signals() as flag:
        for number in numbers:
            signal.raise_signal(number)
        with pytest.raises(Interrupted):
            flag.check()
        return flag.exit_code


def received_with_nohup(*numbers: int) -> int | None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Signals() as flag:
        for number in numbers:
            signal.raise_signal(number)
        return flag.received


def restored_with_nohup(*numbers: int) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals.restore_defaults()
    for number in numbers:
        signal.raise_signal(number)


@pytest.mark.parametrize("number", signals.NUMBERS)
def test_the_first_signal_sets_a_flag(number: int) -> None:
    before = signal.getsignal(number)
    assert received(number) == 128 + number
    assert signal.getsignal(number) == before
    assert is_interrupted(128 + number)
    assert is_interrupted(-number)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("first", signals.NUMBERS)
def test_a_second_one_ends_the_process(first: int, second: signal.Signals) -> None:
    with pytest.raises(RunFailed, match=f"killed by {second.name}"):
        run_in_subprocess(CPU, received, first, second)


@pytest.mark.parametrize("first", signals.NUMBERS)
def test_a_second_hangup_changes_nothing(first: int) -> None:
    """Closing a terminal sends SIGHUP twice: from the kernel and from an interactive bash."""
    assert run_in_subprocess(CPU, received, first, signal.SIGHUP, signal.SIGHUP) == 128 + first


def test_a_hangup_that_is_ignored_at_the_start_stays_ignored() -> None:
    assert run_in_subprocess(CPU, received_with_nohup, signal.SIGHUP) is None
    assert run_in_subprocess(CPU, received_with_nohup, signal.SIGHUP, signal.SIGTERM) == signal.SIGTERM
    run_in_subprocess(CPU, restored_with_nohup, signal.SIGHUP)
    with pytest.raises(RunFailed, match="killed by SIGTERM"):
        run_in_subprocess(CPU, restored_with_nohup, signal.SIGTERM)


HANGING_UP = """
if self.steps == 7 and not pathlib.Path("connected").exists():
    signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGHUP)
"""


def test_a_run_saves_when_its_terminal_is_closed(train) -> None:
    done = train(*write_counting(HANGING_UP), "epochs=9", "batch_size=32", "test=false")
    assert done.code == 129
    assert done.results["status"] == "interrupted"
    assert done.results["steps"] == 7
    assert f"next       train resume={done.folder.relative_to(Path.cwd())}" in done.out
    Path("connected").touch()
    assert train(f"resume={done.folder}", "trust=true").results["status"] == "completed"


SIGNALLED = """
import signal
import torch

class Points(torch.utils.data.TensorDataset):
    def __init__(self):
        super().__init__(torch.arange(240.0).view(60, 4), torch.arange(60) % 3)

    def __getitem__(self, index):
        if torch.utils.data.get_worker_info():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.raise_signal(number)
        return super().__getitem__(index)
"""


def test_signals_do_not_end_data_workers(train) -> None:
    """A closed terminal reaches them too, and without them the run could not end in order."""
    write("signalled.py", SIGNALLED)
    data = ("data=custom", "data._target_=signalled.Points", "data.resident=false", "data.workers=1")
    done = train(*data, "model=mlp", "threads=1", "epochs=1", "test=false")
    assert done.code == 0, done.err


def test_a_signal_before_a_worker_has_begun_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler that it inherits only sets a flag of the sweep's process."""
    composer, folder, setpgid = Composer(), Path("job"), os.setpgid
    job = composer.job(composer.read(["data=iris", "model=mlp", "threads=1", "epochs=1"], sweep=False)[0])
    item = WorkItem((SweepJob(0, job, folder),), folder, trusted=True)

    def signalled(*numbers: int) -> None:
        setpgid(*numbers)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(os, "setpgid", signalled)  # the first call of a worker
    with Signals() as flag:
        codes = [event.code for event in WorkerPool(CPU, [], DataCache()).run([item], flag) if hasattr(event, "code")]
    assert codes == [-signal.SIGTERM]
