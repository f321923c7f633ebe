"""`trainer.sweep`: a sweep in a process of its own, which the caller's arithmetic and classes do not reach."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import pytest
import torch

import trainer
from helpers.runs import CompletedCommand, run_folders
from trainer.api import driver
from trainer.api.process import run_streaming
from trainer.config.compose import Composer
from trainer.config.words import split_words
from trainer.signals import Signals
from trainer.sweeps.grid import compose_jobs, read_overrides

WORDS = ("data=iris", "model=mlp", "epochs=2", "optim.lr=1e-3,1e-2", "seed=0,1")


@pytest.mark.exhaustive
def test_a_sweep_is_that_of_the_command(
    sweep: Callable[..., CompletedCommand], capfd: pytest.CaptureFixture[str]
) -> None:
    done = sweep("-m", *WORDS, "plots=false")
    ours = trainer.sweep(*WORDS, plots=False)
    assert done.folder
    theirs = trainer.TrainedSweep(done.folder)
    changing = ("seconds",)
    for one, other in ((ours.leaderboard, theirs.leaderboard), (ours.settings, theirs.settings)):
        assert len(one) in (4, 2)
        assert [{k: v for k, v in row.items() if k not in changing} for row in one] == [
            {k: v for k, v in row.items() if k not in changing} for row in other
        ]
    assert [job.folder.name for job in ours.jobs] == [job.folder.name for job in theirs.jobs]
    assert ours.best.folder.name == theirs.best.folder.name == ours.leaderboard["job"][0]
    assert ours.best.results["test"]["accuracy"] == theirs.best.results["test"]["accuracy"]
    row = [[5.1, 3.5, 1.4, 0.2]]
    assert torch.equal(ours.best.predict(row), theirs.best.predict(row))
    assert "rank  state" in capfd.readouterr().out
    assert "allow-scripts" in ours._repr_html_()
    before = ours.folder
    more = trainer.sweep("optim.lr=0.1", resume=before, quiet=True)
    assert more.folder == before
    assert len(more.jobs) == 6
    assert capfd.readouterr().out == ""


def test_mistakes_in_a_sweep_arrive_as_problems() -> None:
    words = ["seed=0,1", "epoch=3", "optim.lrr=1,2", "--x"]
    problems = driver.run(words, None).problems
    assert trainer.Problem("epoch", "no such key", advice="Did you mean epochs=3?") in problems
    with pytest.raises(trainer.UserError) as raised:
        compose_jobs(Composer(), read_overrides(Composer(), words[:-1], split_words(words[-1:])[1]))
    assert problems == raised.value.problems
    assert not run_folders()


@pytest.mark.slow
def test_a_sweep_after_arithmetic_on_several_threads(capfd: pytest.CaptureFixture[str]) -> None:
    """A process that was forked from this one would hang at its first parallel operation."""
    torch.set_num_threads(2)
    torch.randn(500, 500) @ torch.randn(500, 500)
    sweep = trainer.sweep("data=iris", "model=mlp", "seed=range(2)", epochs=1, plots=False)
    assert sweep.leaderboard["state"] == ["done", "done"]
    assert sweep.best.labels([[5.1, 3.5, 1.4, 0.2]])
    assert "rank  state" in capfd.readouterr().out
    assert torch.get_num_threads() == 2


def test_values_that_no_configuration_holds_are_refused_at_once() -> None:
    with pytest.raises(trainer.UserError, match=r"no such flag.*\n.*not object"):
        trainer.sweep("--x", optim={"lr": object()})


def test_objects_are_refused_at_once() -> None:
    with pytest.raises(trainer.UserError, match=r"model: .* which an object does not reach. Name a class in a file"):
        trainer.sweep("seed=0,1", model=torch.nn.Linear(4, 3))


PASSING_ON = """
import signal, sys, time
try:
    print("warned", file=sys.stderr)
    print(sys.stdin.read(), flush=True)
    signal.pause()
except KeyboardInterrupt:
    print("saved")
    sys.exit(7)
"""


def test_the_first_signal_is_passed_on(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Output:  # like that of a notebook, it has no descriptor
        text = ""

        def write(self, text: str) -> None:
            self.text += text
            if "begin" in text:
                os.kill(os.getpid(), signal.SIGINT)

        def flush(self) -> None:
            pass

    output = Output()
    monkeypatch.setattr(sys, "stdout", output)
    with Signals(ends_process=False) as signals:
        code = run_streaming([sys.executable, "-c", PASSING_ON], "begin é", signals, quiet=False)
    assert (code, output.text.replace("\n", "")) == (7, "begin ésaved")
    assert capfd.readouterr().err == "warned\n"


def test_a_second_one_ends_the_process() -> None:
    class Second(Signals):
        @property
        def received(self) -> int | None:
            raise KeyboardInterrupt

        @received.setter
        def received(self, number: int | None) -> None:
            pass

    with pytest.raises(KeyboardInterrupt):
        run_streaming([sys.executable, "-c", "import signal; signal.pause()"], "", Second(), quiet=True)
