"""How processes that run jobs are started.

On a CPU under Linux a job is forked from the sweep, which has imported torch and read the data once and must
therefore never have used more than one thread: a process forked after parallel arithmetic hangs at its first. With a
GPU, or elsewhere, jobs start from a server process that has imported torch and nothing else.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any

from trainer.errors import RunFailed


def context_for(devices: Sequence[str]) -> BaseContext:
    """How processes are started for work on these devices."""
    if sys.platform == "linux" and all(device == "cpu" for device in devices):
        return multiprocessing.get_context("fork")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer.run"])
    return context


def elsewhere(devices: Sequence[str], function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, run in a process of its own: what it does to the process stays there.

    Raises:
        RunFailed: the process ended without an answer.
    """
    context = context_for(devices)
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(theirs, function, arguments))  # type: ignore[attr-defined]
    child.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        child.join()
        raise RunFailed(
            f"the jobs could not be looked at: the process ended with exit code {child.exitcode}."
        ) from None
    finally:
        child.join()


def _send(pipe: Connection, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    pipe.send(function(*arguments))
