"""Child processes: the start method, and a function call in a child.

On a CPU under Linux children are forked from this process, which has imported torch and read the data once. It must
therefore never use more than one thread: a process forked after parallel arithmetic hangs in its first
parallel operation. With a GPU, or on other systems, children start from a server process that has imported torch and
nothing else.
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
from trainer.signals import NUMBERS


def context_for(devices: Sequence[str]) -> BaseContext:
    """Return the multiprocessing context for work on these devices: `fork` or `forkserver`."""
    if sys.platform == "linux" and all(device == "cpu" for device in devices):
        return multiprocessing.get_context("fork")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer.run.execute"])
    return context


def describe_exit(code: int) -> str:
    """Return a clause for an exit code, such as "exit code 3" or "killed by SIGTERM"."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (" (out of memory?)" if code == -signal.SIGKILL else "")


def is_interrupted(code: int) -> bool:
    """Return whether one of `signals.NUMBERS` ended a process."""
    return any(code in (-number, 128 + number) for number in NUMBERS)


def run_in_subprocess(devices: Sequence[str], function: Callable[..., Any], *arguments: Any) -> Any:
    """Return `function(*arguments)`, called in a child process that cannot change this one.

    Args:
        devices: device names, which determine how the child is started.
        function: function to call; its result must be picklable, and unless the child is forked, it and its arguments.
        arguments: positional arguments of the function.

    Raises:
        UserError: raised by the function.
        RunFailed: raised by the function, or the function raised another exception, or the child died.
    """
    # No ProcessPoolExecutor: its BrokenProcessPool hides the exit code or signal of a killed child, and the traceback
    # that names the line in a user's code does not survive pickling, so a wrapper like `_send` would be needed anyway.
    context = context_for(devices)
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(sender, function, arguments))  # type: ignore[attr-defined]
    child.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        child.join()
        answer = RunFailed(f"could not inspect the jobs: their process ended early: {describe_exit(child.exitcode)}.")
    finally:
        child.join()
    if isinstance(answer, UserError | RunFailed):
        raise answer
    return answer


def _send(sender: Connection, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    """Call the function in the child and send its result or its exception."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent alone handles Ctrl-C
    try:
        answer = function(*arguments)
    except (UserError, RunFailed) as error:
        answer = error
    except BaseException as error:  # a user's code may raise anything, even SystemExit
        answer = RunFailed(f"could not inspect the jobs: {raised_at(error)}.")
    sender.send(answer)
