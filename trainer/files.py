"""Files that are whole or not there, and files of others read with care."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from trainer.errors import Problem, RunFailed, UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(path: Path, data: bytes | memoryview, keep: Path | None = None) -> None:
    """Replaces `path` as a whole or not at all, and only returns once it is on the disk.

    Args:
        keep: what stood at `path` is moved here, once the new file is complete.

    Raises:
        RunFailed: the disk is full or refuses; what stood at `path` still stands.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", opener=_own) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunFailed(
            f"{path}: could not be written ({error.strerror}). What was saved before still stands."
        ) from error


def remove_torn(folder: Path) -> None:
    """Takes away what a process that was killed while it wrote to this folder has left; nobody else writes there."""
    for torn in folder.glob(".*.tmp"):
        torn.unlink(missing_ok=True)


def not_made(path: Path, error: OSError) -> UserError | RunFailed:
    """What to raise where a file or folder cannot be made: with a full disk it is no matter of where."""
    reason = error.strerror or str(error)
    if error.errno in FULL:
        return RunFailed(f"{path}: could not be written ({reason}).")
    return UserError(Problem(str(path), f"cannot be written ({reason}); start in a folder that can be written to"))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """A new text file that takes the place of `path` once all is written; if it raises, what stood there still stands.

    Raises:
        RunFailed: the disk is full or refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", errors="replace", newline="", opener=_own) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise RunFailed(f"{path}: could not be written ({error.strerror or error}).") from error
    finally:
        temporary.unlink(missing_ok=True)


def _own(path: str, flags: int) -> int:
    """Opens a file that is none of somebody's links to another place: the folder may have come from anywhere."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def sync_folder(folder: Path) -> None:
    """Makes a rename durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_regular(path: Path, *, follow: bool = False) -> IO[bytes]:
    """A file that anyone may have put there, opened for reading.

    Args:
        follow: it may be a link.

    Raises:
        UserError: it is no regular file, cannot be read, or is a link, which may lead anywhere.
    """
    try:
        # Not blocking: a named pipe would wait for ever for someone to write.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        what = "a symbolic link, which is not followed here" if path.is_symlink() and not follow else error.strerror
        raise UserError(Problem(str(path), f"cannot be read ({what})")) from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise UserError(Problem(str(path), "no regular file"))
    return open(number, "rb")


def read_limited(path: Path, limit: int) -> bytes:
    """The content of a file that anyone may have put there.

    Raises:
        UserError: it is larger than `limit` bytes, no regular file, cannot be read, or is a link.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise UserError(Problem(str(path), f"{size:,} bytes are more than the {limit:,} accepted"))
        try:
            return file.read(limit)
        except OSError as error:
            raise UserError(Problem(str(path), f"cannot be read ({error.strerror})")) from error
