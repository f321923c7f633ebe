"""Locks of folders: refused to a second process, and released by the end of the first, despite its forks."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from helpers.runs import REPOSITORY
from trainer.errors import UserError
from trainer.records import lock as lock_module
from trainer.records.lock import is_locked, lock

HOLDER = """
import os, sys, time
from pathlib import Path
from trainer.records.lock import lock
held = lock(Path("a.lock"), "taken")
forked, here = os.pipe()
if os.fork() == 0:
    os.write(here, b".")  # by now it has closed what it inherited
    time.sleep(60)
os.read(forked, 1)
print("ready", os.getpid(), flush=True)
time.sleep(60)
"""


def test_a_second_lock_is_refused_until_the_first_is_closed() -> None:
    path = Path("a.lock")
    assert not is_locked(path)
    held = lock(path, "taken")
    assert is_locked(path)
    with pytest.raises(UserError, match=r"^\.: taken\.$"):
        lock(path, "taken")
    held.close()
    assert not is_locked(path)


def test_a_killed_process_frees_its_lock_although_a_process_that_it_forked_lives_on() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"ready {process.pid}\n"
        assert is_locked(Path("a.lock"))
        process.kill()
        process.wait()
        assert not is_locked(Path("a.lock"))
        os.killpg(process.pid, 0)  # the forked process is there
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_a_process_that_looks_is_waited_for_and_seen_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking takes a moment: another process looks while this one looks, and while it locks for the first time."""
    path, kinds, acquire = Path("a.lock"), [], lock_module._acquire
    path.touch()

    def beside_another(file: IO[bytes], kind: int) -> bool:
        kinds.append(kind)
        with open(path) as looking:
            if len(kinds) < 3:
                fcntl.flock(looking, fcntl.LOCK_SH)
            return acquire(file, kind)

    monkeypatch.setattr(lock_module, "_acquire", beside_another)
    assert not is_locked(path)
    lock(path, "taken").close()
    assert kinds == [fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_EX]


def test_links_and_pipes_are_neither_followed_nor_waited_for() -> None:
    Path("secret").write_text("x")
    Path("link.lock").symlink_to("secret")
    os.mkfifo("pipe.lock")
    for name in ("link.lock", "pipe.lock"):
        with pytest.raises(UserError, match="cannot be written"):
            lock(Path(name), "taken")
        assert not is_locked(Path(name))


def test_a_lock_in_a_folder_of_somebody_else_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    held = lock(Path("a.lock"), "taken")
    real = os.open

    def read_only(path: str, flags: int, *args: int, **others: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *args, **others)

    monkeypatch.setattr(os, "open", read_only)
    assert is_locked(Path("a.lock"))
    held.close()
