"""Atomic writes, and careful reads of untrusted files."""

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
    """Replace a file as a whole or not at all; see `replacing`."""
    with replacing(path, keep) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[IO[bytes]]:
    """Open a file that replaces `path` at the end of the block; by then the new content is on the disk.

    Args:
        path: the file; if the block raises, its old content stays.
        keep: where the old content is moved once the new file is complete.

    Raises:
        RunFailed: the file cannot be written, for example on a full disk; the old content is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", opener=_no_follow) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        reason = f"could not be written ({error.strerror or error})"
        raise RunFailed(f"{path}: {reason}. What was saved before is still there.") from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_torn(folder: Path) -> None:
    """Delete the temporary files of killed processes in a folder that no other process writes to."""
    for torn in folder.glob(".*.tmp"):
        torn.unlink(missing_ok=True)


def cannot_create(path: Path, error: OSError) -> UserError | RunFailed:
    """Return the exception for a file or folder that cannot be created: RunFailed if the disk is full."""
    reason = error.strerror or str(error)
    if error.errno in FULL:
        return RunFailed(f"{path}: could not be written ({reason}).")
    return UserError(Problem(str(path), f"cannot be written ({reason}); start in a writable folder"))


def _no_follow(path: str, flags: int) -> int:
    """Open without following links: the folder may be untrusted."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _sync(folder: Path) -> None:
    """Flush a folder to the disk, which makes a rename in it durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(path: Path, *, follow: bool = False) -> IO[bytes]:
    """Open an untrusted file for reading, without waiting if it is a named pipe.

    Raises:
        UserError: it is not a regular file, cannot be read, or is a symbolic link and `follow` is False.
    """
    try:
        # Without O_NONBLOCK the call would wait for somebody to write to a named pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        reason = "a symbolic link, which is not followed here" if path.is_symlink() and not follow else error.strerror
        raise UserError(Problem(str(path), f"cannot be read ({reason})")) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(Problem(str(path), "not a regular file"))
    return open(descriptor, "rb")


def read_limited(path: Path, limit: int) -> bytes:
    """Return the content of an untrusted file.

    Raises:
        UserError: it is larger than `limit` bytes, is not a regular file, cannot be read, or is a link.
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
    """Return the text of an untrusted file.

    Raises:
        UserError: it cannot be read (see `read_limited`) or is not UTF-8.
    """
    try:
        return read_limited(path, limit).decode()
    except UnicodeDecodeError as error:
        raise UserError(Problem(str(path), f"not UTF-8 text ({error.reason})")) from error


def newer_format(version: int, newest: int) -> str:
    """Return the reason why a file of a later version of this program cannot be read."""
    return f"its format {version} is newer than {newest}, the newest that this version reads"
