"""Atomic writes, and careful reads of files that anyone may have written."""

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
    """Replace a file as a whole or not at all; the new content is on the disk when this returns.

    Args:
        path: of the file.
        data: new content.
        keep: where the old content is moved once the new file is complete.

    Raises:
        RunFailed: the disk is full or refuses; the old content is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", opener=_no_follow) as file:
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
            f"{path}: could not be written ({error.strerror}). What was saved before is still there."
        ) from error


def remove_torn(folder: Path) -> None:
    """Delete what a process left that was killed while it wrote to this folder, which nobody else writes to."""
    for torn in folder.glob(".*.tmp"):
        torn.unlink(missing_ok=True)


def cannot_create(path: Path, error: OSError) -> UserError | RunFailed:
    """Return the exception for a file or folder that cannot be created: RunFailed if the disk is full."""
    reason = error.strerror or str(error)
    if error.errno in FULL:
        return RunFailed(f"{path}: could not be written ({reason}).")
    return UserError(Problem(str(path), f"cannot be written ({reason}); start in a folder that can be written to"))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """Open a text file that replaces `path` at the end of the block; if the block raises, the old content stays.

    Raises:
        RunFailed: the file could not be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", errors="replace", newline="", opener=_no_follow) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise RunFailed(f"{path}: could not be written ({error.strerror or error}).") from error
    finally:
        temporary.unlink(missing_ok=True)


def _no_follow(path: str, flags: int) -> int:
    """Open without following links: the folder may be untrusted."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def sync_folder(folder: Path) -> None:
    """Flush a folder to the disk, which makes a rename in it durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_regular(path: Path, *, follow: bool = False) -> IO[bytes]:
    """Open a file for reading that anyone may have put there.

    Args:
        path: of the file.
        follow: whether it may be a symbolic link.

    Raises:
        UserError: it is not a regular file, cannot be read, or is a link.
    """
    try:
        # Without O_NONBLOCK the call would wait for somebody to write to a named pipe.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        what = "a symbolic link, which is not followed here" if path.is_symlink() and not follow else error.strerror
        raise UserError(Problem(str(path), f"cannot be read ({what})")) from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise UserError(Problem(str(path), "not a regular file"))
    return open(number, "rb")


def read_limited(path: Path, limit: int) -> bytes:
    """Return the content of a file that anyone may have put there.

    Raises:
        UserError: it is larger than `limit` bytes, not a regular file, cannot be read, or is a link.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise UserError(Problem(str(path), f"{size:,} bytes are more than the {limit:,} accepted"))
        try:
            return file.read(limit)
        except OSError as error:
            raise UserError(Problem(str(path), f"cannot be read ({error.strerror})")) from error


def read_text(path: Path, limit: int) -> str:
    """Return the text of a file that anyone may have put there.

    Raises:
        UserError: it cannot be read (see `read_limited`) or is not UTF-8.
    """
    try:
        return read_limited(path, limit).decode()
    except UnicodeDecodeError as error:
        raise UserError(Problem(str(path), f"not UTF-8 text ({error.reason})")) from error


def newer_format(version: int, newest: int) -> str:
    """Return why a file of a later version of this program cannot be read."""
    return f"its format {version} is newer than {newest}, the newest this version reads"
