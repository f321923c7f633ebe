"""Locks of run and sweep folders: held by one process until it ends, for whatever reason.

`fcntl.flock` is called directly. filelock (4.2) was tried: its `FileLock` opens the file for writing, so that nobody
could see whether a run in somebody else's folder is running, and importing it takes 50 ms, a third of a sweep's job.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path
from typing import IO

from trainer.errors import Problem, UserError
from trainer.files import open_regular
from trainer.records.contents import append

_held: weakref.WeakSet[IO[bytes]] = weakref.WeakSet()


def lock(path: Path, reason: str) -> IO[bytes]:
    """Lock the file at `path`, which is created if needed, until the returned file is closed.

    Forked processes close their copy, so that the end of this process releases the lock.

    Raises:
        UserError: for `reason`, if another process holds the lock; or the file cannot be opened, see `append`.
        RunFailed: the disk is full.
    """
    file = append(path)
    if not _is_free(file):
        file.close()
        raise UserError(Problem(str(path.parent), reason))
    _held.add(file)
    return file


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock at `path`; False if it is not a regular file."""
    try:
        file = open_regular(path)
    except UserError:  # not a lock file of this program
        return False
    with file:
        return not _is_free(file)


def _is_free(file: IO) -> bool:
    """Take the lock of an open file without waiting; return whether that was possible."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _close_inherited() -> None:
    for file in _held:
        file.close()


os.register_at_fork(after_in_child=_close_inherited)
