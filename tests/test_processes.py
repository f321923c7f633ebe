"""A function called in a child process returns, raises or dies as if it were called in this one."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

import pytest

from trainer.errors import Problem, RunFailed, UserError
from trainer.processes import describe_exit, run_in_subprocess

CPU = ["cpu"]


def refuse() -> NoReturn:
    raise UserError(Problem("epochs", "expected at least 1", given="0"), "a sentence")


def fail() -> NoReturn:
    raise RunFailed("the disk is full")


def look_up() -> NoReturn:
    {}["no key"]
    raise AssertionError


def pollute() -> int:
    os.environ["POLLUTED"] = "yes"
    return os.getpid()


def test_a_result_returns_and_nothing_else() -> None:
    assert run_in_subprocess(CPU, divmod, 7, 2) == (3, 1)
    assert run_in_subprocess(CPU, pollute) != os.getpid()
    assert "POLLUTED" not in os.environ


def test_problems_keep_their_fields() -> None:
    with pytest.raises(UserError) as caught:
        run_in_subprocess(CPU, refuse)
    assert caught.value.problems[0] == Problem("epochs", "expected at least 1", given="0")
    assert str(caught.value) == "epochs=0: expected at least 1.\na sentence"


@pytest.mark.parametrize(
    ("function", "arguments", "sentence"),
    [
        (fail, (), "the disk is full"),
        (look_up, (), "could not inspect the jobs: KeyError: 'no key' in test_processes.py, line 27."),
        (sys.exit, (3,), "could not inspect the jobs: SystemExit: 3 in "),
        (os._exit, (3,), "could not inspect the jobs: their process ended early: exit code 3."),
        (signal.raise_signal, (signal.SIGKILL,), "ended early: killed by SIGKILL (out of memory?)."),
        (signal.raise_signal, (signal.SIGINT,), "ended early: killed by SIGINT."),
    ],
)
def test_every_other_end_is_a_failure_with_its_reason(function, arguments: tuple, sentence: str) -> None:
    with pytest.raises(RunFailed) as caught:
        run_in_subprocess(CPU, function, *arguments)
    assert sentence in str(caught.value)


def test_exit_codes_in_words() -> None:
    assert describe_exit(1) == "exit code 1"
    assert describe_exit(-signal.SIGTERM) == "killed by SIGTERM"
