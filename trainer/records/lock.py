"""Locks of run and sweep folders: held by one process until it ends, for whatever reason.

`fcntl.flock` is called directly. filelock (4.2) was tried: its `FileLock` opens the file for writing, so that nobody
could see whether a run in somebody else's folder is running, and importing it takes 50 ms, a third of a sweep's job.
"""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from pathlib import Path
from typing import IO

from trainer.errors import Problem, UserError
from trainer.files import open_regular
from trainer.records.contents import append

PATIENCE_SECONDS = 0.2

_held: weakref.WeakSet[IO[bytes]] = weakref.WeakSet()


def lock(path: Path, reason: str) -> IO[bytes]:
    """Lock the file at `path`, which is created if needed, until the returned file is closed.

    Forked processes close their copy, so that the end of this process releases the lock. Other programs inherit none.
    For a moment the lock may be held by a process that has just been forked, or that looks whether it is free.

    Raises:
        UserError: for `reason`, if another process holds the lock; or the file cannot be opened, see `append`.
        RunFailed: the disk is full.
    """
    file = append(path)
    _held.add(file)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _acquire(file, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            file.close()
            raise UserError(Problem(str(path.parent), reason))
        time.sleep(PATIENCE_SECONDS / 10)
    return file


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock at `path`; False if it is not a regular file."""
    try:
        file = open_regular(path)
    except UserError:  # not a lock file of this program
        return False
    with file:
        return not _acquire(file, fcntl.LOCK_SH)  # shared: others that look do not see a lock


def _acquire(file: IO, kind: int) -> bool:
    """Acquire the lock of an open file without waiting; return whether that was possible."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _close_inherited() -> None:
    for file in _held:
        file.close()


os.register_at_fork(after_in_child=_close_inherited)
