"""Sweeps in processes of their own, which can be killed at any moment; and what a sweep has come to."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.runs import REPOSITORY, CompletedCommand
from trainer.training import checkpoint

TINY = ("data=iris", "model=mlp", "threads=1", "plots=false")
NEEDS_PROC = not Path("/proc/self/stat").exists()

# A fresh process that imports everything once, computes nothing, and forks a child for each command.
HARNESS = """
import json, os, sys, time, traceback
import torchmetrics.functional.classification
import trainer.run.run
import trainer.sweeps.executor
from trainer.cli import ExitCode
from trainer.commands.train import run_train
from trainer.config.compose import Composer

composer = Composer()  # Hydra reads its own grammar once
composer.job(composer.read(["optim.lr=1e-3"], sweep=False)[0])

def command(order):
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    for stream, path in enumerate((os.devnull, order["out"], order["err"])):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOCTTY, 0o600), stream)
    try:
        with ExitCode() as code:
            code.value = run_train(order["words"])
        return code.value
    except SystemExit as end:
        return end.code
    except BaseException:
        traceback.print_exc()
        return 70

print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        code, until = None, time.monotonic() + order["seconds"]
        while code is None and time.monotonic() < until:
            ended, status = os.waitpid(order["wait"], os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if ended else time.sleep(0.005)
        print(json.dumps(code), flush=True)
        continue
    child = os.fork()
    if child == 0:
        code = command(order)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(child, flush=True)
"""


class Server:
    """Starts commands of the program; there is one for all tests.

    Args:
        settings: statements that it executes first, for constants that no key sets.
    """

    def __init__(self, settings: str = "") -> None:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_WAIT_POLICY": "PASSIVE"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{settings}\n{HARNESS}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        self.count = 0

    def ask(self, **order: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, *words: str, terminal: str | None = None, **environment: str) -> Running:
        """A command on its way, with its streams in files or, with `terminal`, its output there."""
        self.count += 1
        out, err = (Path.cwd() / f".{self.count}.{name}" for name in ("out", "err"))
        before = folders()
        pid = self.ask(folder=os.getcwd(), words=words, out=terminal or str(out), err=str(err), environment=environment)
        return Running(self, pid, words, out, err, before)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


@dataclass
class Running:
    """A command on its way."""

    server: Server
    pid: int
    words: Sequence[str]
    out: Path
    err: Path
    before: set[Path]

    def end(self, seconds: float = 100) -> CompletedCommand:
        """Waits for it; kills what hangs."""
        code = self.server.ask(wait=self.pid, seconds=seconds)
        if code is None:
            for pid in [self.pid, *self.workers()]:
                os.kill(pid, signal.SIGKILL)
            self.server.ask(wait=self.pid, seconds=10)
            raise AssertionError(f"{self.words} hangs")
        out, err = (path.read_text() if path.exists() else "" for path in (self.out, self.err))
        return CompletedCommand(code, out, err, self.folder)

    def kill(self, number: int = signal.SIGKILL) -> CompletedCommand:
        with contextlib.suppress(ProcessLookupError):  # it was faster
            os.kill(self.pid, number)
        return self.end()

    @property
    def folder(self) -> Path | None:
        """Of this sweep or run, once it is there."""
        resumed = [word.partition("=")[2] for word in self.words if word.startswith("resume=")]
        new = sorted(folders() - self.before)
        return new[0] if new else Path(resumed[0]) if resumed else None

    def workers(self) -> list[int]:
        """Its child processes."""
        return children(self.pid)

    def until(self, what: Callable[[Path], Any], seconds: float = 30) -> Any:
        """Waits until `what(folder)` is something; returns it."""
        give_up = time.monotonic() + seconds
        while True:
            if self.folder is not None and (found := what(self.folder)):
                return found
            assert time.monotonic() < give_up, self.err.read_text()
            time.sleep(0.01)


def folders() -> set[Path]:
    return {path for path in Path.cwd().glob("outputs/*/*") if path.parent.name != "latest"}


def processes() -> dict[int, tuple[int, str]]:
    """(parent, state) of every process."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            found[int(path.parent.name)] = (int(parent), state)
    return found


def children(pid: int) -> list[int]:
    return [child for child, (parent, state) in processes().items() if parent == pid and state != "Z"]


def gone(pids: Sequence[int], seconds: float) -> bool:
    """Whether all these processes end within a time."""
    until = time.monotonic() + seconds
    while any(processes().get(pid, (0, "Z"))[1] != "Z" for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def rows(path: Path) -> list[dict[str, str]]:
    """Of a CSV file, timings left out; none where it is not there yet."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [
            {name: cell for name, cell in row.items() if name not in ("seconds", "samples_per_second")}
            for row in csv.DictReader(file)
        ]


def table(folder: Path) -> list[dict[str, str]]:
    return rows(folder / "leaderboard.csv")


def ledger(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of sweep.jsonl; none where it is not there yet."""
    if not (folder / "sweep.jsonl").exists():
        return []
    whole = (folder / "sweep.jsonl").read_bytes().rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def states(folder: Path) -> dict[int, str]:
    """The last state of each job."""
    return {line["job"]: line["state"] for line in ledger(folder) if "job" in line}


def places(folder: Path) -> list[Path]:
    """The folders of the jobs, by number."""
    return [folder / line["name"] for line in ledger(folder) if "stored" in line]


def results(place: Path) -> dict[str, Any]:
    return json.loads((place / "results.json").read_text())


def weights(place: Path) -> dict[str, Any]:
    """The best weights of a run or a job."""
    return checkpoint.load(place / "checkpoints" / "best.pt")["model"]


def all_weights(folder: Path) -> list[dict[str, Any]]:
    return [weights(place) for place in places(folder)]


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Modification time and bytes of each file below."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
