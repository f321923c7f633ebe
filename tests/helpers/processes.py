"""Python in child processes, and the processes of this machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.runs import REPOSITORY

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
    """Run Python with these words, such as `-m trainer`, and wait for at most two minutes."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 120, **options}
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


def gone(pids: Sequence[int], seconds: float) -> bool:
    """Return whether all these processes end within `seconds`."""
    deadline = time.monotonic() + seconds
    while any(states().get(pid, (0, "Z"))[1] != "Z" for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
