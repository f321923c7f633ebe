"""Python in child processes, the processes of this machine, and waiting for them.

Tests measure processor time and wait for events; `HANG_SECONDS` is the only limit on time, and no test may need it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.runs import REPOSITORY

HANG_SECONDS = 300  # after which a test that waits fails instead of waiting for ever
HEAVY = ("torch", "torchvision", "torchmetrics", "matplotlib", "numpy")
WATCHED = """
import sys
from trainer.cli import trainer
try:
    trainer()
finally:
    imported = sorted({forbidden!r} & set(sys.modules))
    if imported:
        sys.exit(f"imported {imported}")
"""
NO_PROC = not Path("/proc/self/stat").exists()


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment, in which Python finds this program and the tests' helpers."""
    return {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}", **variables}


def run_python(*words: str, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Python with these words, such as `-m trainer`, and wait for its end."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": HANG_SECONDS, **options}
    return subprocess.run([sys.executable, *words], text=True, env=env or environment(), **options)


def run_without(forbidden: Sequence[str], *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `trainer` with these words; it fails if it imported one of the forbidden modules."""
    return run_python("-c", WATCHED.replace("{forbidden!r}", repr(set(forbidden))), *words, **options)


def start_python(*words: str, **options: Any) -> subprocess.Popen[str]:
    """Start Python with these words; the caller waits for it."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([sys.executable, *words], text=True, env=environment(), **options)


def states() -> dict[int, tuple[int, str]]:
    """Return the parent and the state of every process, such as "R" or, for one that has ended, "Z"."""
    processes = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            processes[int(path.parent.name)] = (int(parent), state)
    return processes


def children(pid: int) -> list[int]:
    """Return the running child processes of a process."""
    return [child for child, (parent, state) in states().items() if parent == pid and state != "Z"]


def processes_in(folder: Path) -> list[int]:
    """Return the other processes whose current folder this is, such as workers of a killed sweep."""
    inside = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if os.readlink(path) == str(folder):
                inside.append(int(path.parent.name))
    return [pid for pid in inside if pid != os.getpid()]


def alive(pids: Sequence[int]) -> list[int]:
    """Return those of these processes that have not ended."""
    now = states()
    return [pid for pid in pids if now.get(pid, (0, "Z"))[1] != "Z"]


def wait_until(condition: Callable[[], Any]) -> Any:
    """Wait until `condition()` is true and return what it returned."""
    deadline = time.monotonic() + HANG_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, "this never happens"
        time.sleep(0.01)
    return value


def wait_for_end(pids: Sequence[int]) -> None:
    """Wait until these processes have ended by themselves."""
    wait_until(lambda: not alive(pids))


@contextlib.contextmanager
def processor_limit(seconds: float) -> Iterator[None]:
    """Fail if the block takes more processor time than this; that of child processes that have ended counts too."""

    def used() -> float:
        usages = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    before = used()
    yield
    assert used() - before < seconds
