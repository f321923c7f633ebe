"""How processes that run jobs are started.

On a CPU under Linux a job is forked from the sweep, which has imported torch and read the data once and must
therefore never have used more than one thread: a process forked after parallel arithmetic hangs at its first. With a
GPU, or elsewhere, jobs start from a server process that has imported torch and nothing else.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any

from trainer.errors import RunFailed, UserError, raised_at


def context_for(devices: Sequence[str]) -> BaseContext:
    """How processes are started for work on these devices."""
    if sys.platform == "linux" and all(device == "cpu" for device in devices):
        return multiprocessing.get_context("fork")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer.run.run"])
    return context


def run_in_subprocess(devices: Sequence[str], function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, run in a process of its own: what it does to the process stays there.

    Raises:
        UserError, RunFailed: as the function does.
        RunFailed: it raised something else, or the process ended without an answer.
    """
    context = context_for(devices)
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(theirs, function, arguments))  # type: ignore[attr-defined]
    child.start()
    theirs.close()
    try:
        how, answer = ours.recv()
    except EOFError:
        child.join()
        how, answer = "raised", f"the process ended with exit code {child.exitcode}"
    finally:
        child.join()
    if how == "wrong":
        raise UserError(*answer)
    if how == "failed":
        raise RunFailed(answer)
    if how == "raised":
        raise RunFailed(f"the jobs could not be looked at: {answer}.")
    return answer


def _send(pipe: Connection, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is told of once, by the process that asked
    try:
        answer = ("good", function(*arguments))
    except UserError as error:
        answer = ("wrong", error.problems)
    except RunFailed as error:
        answer = ("failed", str(error))
    except BaseException as error:  # of a user's own code: sys.exit too
        answer = ("raised", raised_at(error))
    pipe.send(answer)
