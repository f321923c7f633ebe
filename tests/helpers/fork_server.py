"""Commands in child processes that need not import torch again and can be killed at any moment.

`ForkServer` starts `serve` in a fresh process, which imports everything once, computes nothing, and forks a child for
each command. A child that was forked after a parallel operation would hang.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.processes import HANG_SECONDS, children, start_python
from helpers.runs import CompletedCommand, exit_code, run_folders
from trainer.config.compose import Composer

BROKEN_PIPE = "|"
FOR_CHILDREN = ("trainer.run.run", "trainer.sweeps.executor", "torchmetrics.functional.classification")


class ForkServer:
    """A server that starts commands of the program.

    Args:
        constants: values of module constants by full name, which no key sets.
        open_files: maximum number of open files of a command; None for the system's limit.
    """

    def __init__(self, constants: Mapping[str, float] | None = None, open_files: int | None = None) -> None:
        # Not `-m`: the processes that a sweep starts would import this module as their main module.
        program = f"from helpers.fork_server import serve; serve({dict(constants or {})!r}, {open_files!r})"
        self.process = start_python("-c", program, stdin=subprocess.PIPE, stderr=None)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        self.count = 0

    def ask(self, **order: Any) -> Any:
        """Send an order to the server and return its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(
        self,
        *words: str,
        program: str = "train",
        terminal: str | None = None,
        closed: Sequence[int] = (),
        faults: Mapping[str, Any] | None = None,
        **environment: str,
    ) -> RunningCommand:
        """Start a command in the current folder; its output goes to files, or to the device `terminal`.

        Args:
            words: the arguments.
            program: train or trainer.
            terminal: the device; BROKEN_PIPE is a pipe whose reader is gone.
            closed: descriptors that are closed when the program starts.
            faults: a plan of `faults.injection`.
            environment: environment variables.
        """
        self.count += 1
        out, err = (Path.cwd() / f".{self.count}.{name}" for name in ("out", "err"))
        before = run_folders()
        streams = {"out": terminal or str(out), "err": str(err), "closed": closed}
        order = {"folder": os.getcwd(), "program": program, "words": words, "faults": faults}
        pid = self.ask(**order, **streams, environment=environment)
        return RunningCommand(self, pid, words, out, err, before)

    def close(self) -> None:
        """Stop the server; the commands that it started continue."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=HANG_SECONDS)


@dataclass
class RunningCommand:
    """A command that was started and may have ended by now."""

    server: ForkServer
    pid: int
    words: Sequence[str]
    out: Path
    err: Path
    before: set[Path]
    code: int | None = None

    def wait(self, seconds: float) -> int | None:
        """Return the exit code; None if the command is still running after `seconds`."""
        if self.code is None:
            self.code = self.server.ask(wait=self.pid, seconds=seconds)
        return self.code

    def end(self) -> CompletedCommand:
        """Wait for its end; kill it and fail if it hangs."""
        code = self.wait(HANG_SECONDS)
        if code is None:
            for pid in [self.pid, *self.workers()]:
                os.kill(pid, signal.SIGKILL)
            self.wait(HANG_SECONDS)
            raise AssertionError(f"{self.words} hangs")
        out, err = (path.read_text() if path.exists() else "" for path in (self.out, self.err))
        return CompletedCommand(code, out, err, self.folder)

    def kill(self, number: int = signal.SIGKILL) -> CompletedCommand:
        """Send a signal and wait for the end."""
        with contextlib.suppress(ProcessLookupError):  # it has ended by now
            os.kill(self.pid, number)
        return self.end()

    @property
    def folder(self) -> Path | None:
        """The folder of this sweep or run; None until it exists."""
        resumed = [word.partition("=")[2] for word in self.words if word.startswith("resume=")]
        new = sorted(run_folders() - self.before)
        return new[0] if new else Path(resumed[0]) if resumed else None

    def workers(self) -> list[int]:
        """Return its child processes."""
        return children(self.pid)

    def until(self, condition: Callable[[Path], Any]) -> Any:
        """Wait until `condition(folder)` is true and return what it returned; fail if the command ends before."""
        deadline = time.monotonic() + HANG_SECONDS
        while True:
            ended = self.wait(0) is not None
            if self.folder is not None and (value := condition(self.folder)):
                return value
            assert not ended, self.err.read_text()
            assert time.monotonic() < deadline, self.err.read_text()
            time.sleep(0.01)


def _run(order: Mapping[str, Any]) -> int:
    """Run a command in this child process and return its exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts the tests with `&` ignores it
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    for stream, path in enumerate((os.devnull, order["out"], order["err"])):
        _redirect(stream, path)
    for stream in order["closed"]:
        os.close(stream)
        name = ("stdin", "stdout", "stderr")[stream]
        setattr(sys, name, None)  # as Python does at its start
        setattr(sys, f"__{name}__", None)
    if order["faults"]:
        importlib.import_module("faults.injection").install(order["faults"])
    try:
        return exit_code(order["program"], *order["words"])
    except BaseException:
        traceback.print_exc()
        return 70


def _redirect(stream: int, path: str) -> None:
    """Let a standard stream of this process lead to a path."""
    if path == BROKEN_PIPE:
        reader, descriptor = os.pipe()
        os.close(reader)
    else:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOCTTY, 0o600)
    os.dup2(descriptor, stream)
    os.close(descriptor)


def _wait(pid: int, seconds: float) -> int | None:
    """Return the exit code of a child, negative if a signal ended it; None if it is still running."""
    deadline = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.005)


def serve(constants: Mapping[str, float], open_files: int | None) -> None:
    """Answer orders, one JSON object a line, until the input ends."""
    if open_files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    for module in FOR_CHILDREN:
        importlib.import_module(module)
    for name, value in constants.items():
        module, _, constant = name.rpartition(".")
        assert hasattr(importlib.import_module(module), constant), name
        setattr(sys.modules[module], constant, value)
    composer = Composer()
    composer.job(composer.read(["optim.lr=1e-3"], sweep=False)[0])  # Hydra reads its grammar once
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            print(json.dumps(_wait(order["wait"], order["seconds"])), flush=True)
            continue
        child = os.fork()
        if child == 0:
            code = _run(order)
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
            os._exit(code)
        print(child, flush=True)
