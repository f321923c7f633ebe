"""Files opened without following links, atomic writes, and careful reads of untrusted files.

The folder that a user names may be reached through symbolic links: `resolve` returns its path without them, once.
Everything below is opened folder by folder, each relative to the one before, so that a link is refused even if it was
put there later.
"""

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
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
LINK, NOT_A_FILE = "a symbolic link, which is not followed here", "not a regular file"
SEARCH = getattr(os, "O_PATH", os.O_RDONLY)  # O_PATH needs no permission to list the folder
FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # opening a named pipe without O_NONBLOCK waits for its other end
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | FILE


def resolve(path: Path) -> Path:
    """Return the path if it contains no symbolic link, else the path without links to which it leads."""
    real = Path(os.path.realpath(path))
    if str(real) == os.path.abspath(path):
        return path
    here = os.getcwd()
    return real.relative_to(here) if not path.is_absolute() and real.is_relative_to(here) else real


def check_current_folder() -> None:
    """Check that the current folder exists.

    Raises:
        UserError: it was deleted.
    """
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UserError(Problem("", "the current folder was deleted; change to another one")) from error


@contextlib.contextmanager
def open_folder(path: Path, access: int = SEARCH) -> Iterator[int]:
    """Open a folder without following a link on the way; yield its descriptor.

    Raises:
        OSError: the path contains a link, or there is no such folder.
    """
    names = path.parts[1:] if path.is_absolute() else path.parts
    descriptor = os.open("/" if path.is_absolute() else ".", (SEARCH if names else access) | FOLDER)
    try:
        for number, name in enumerate(names, 1):
            inner = open_at(name, (SEARCH if number < len(names) else access) | FOLDER, descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def opener(path: str, flags: int) -> int:
    """Open a regular file for `open`, without following links or waiting for the other end of a pipe."""
    with open_folder(Path(path).parent) as folder:
        descriptor = open_at(Path(path).name, flags | FILE, folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ENXIO, NOT_A_FILE)
    return descriptor


def open_at(name: str, flags: int, folder: int) -> int:
    """Open a name in an open folder; an error says if it is a link or a named pipe."""
    try:
        return os.open(name, flags, 0o666, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and _is_link(name, folder):
            raise OSError(errno.ELOOP, LINK) from error
        if error.errno == errno.ENXIO:  # a pipe without a reader, or a socket
            raise OSError(errno.ENXIO, NOT_A_FILE) from error
        raise


def _is_link(name: str, folder: int) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def create_at(name: str, folder: int) -> int:
    """Create a temporary file in an open folder; replace that of a killed process with the same number."""
    try:
        return os.open(name, NEW, 0o666, dir_fd=folder)
    except FileExistsError:
        os.unlink(name, dir_fd=folder)
        return os.open(name, NEW, 0o666, dir_fd=folder)


def sync(folder: int) -> None:
    """Flush an open folder to the disk, which makes a rename in it durable."""
    descriptor = os.open(".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes | memoryview, keep: Path | None = None) -> None:
    """Replace a file as a whole or not at all; see `replacing`."""
    with replacing(path, keep) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[IO[bytes]]:
    """Open a file that replaces `path` at the end of the block; by then the new content is on the disk.

    Args:
        path: the file; if the block raises, its old content stays.
        keep: path in the same folder to which the old content is moved once the new file is complete.

    Raises:
        RunFailed: the file cannot be written, for example on a full disk; the old content is still there.
    """
    temporary = f".{path.name}.{os.getpid()}.tmp"
    try:
        with open_folder(path.parent) as folder:
            descriptor = create_at(temporary, folder)
            try:
                with open(descriptor, "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                if keep is not None:
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(path.name, keep.name, src_dir_fd=folder, dst_dir_fd=folder)
                os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):  # renamed already, or on a disk that is read-only by now
                    os.unlink(temporary, dir_fd=folder)
                raise
            sync(folder)
    except OSError as error:
        reason = f"could not be written ({error.strerror or error})"
        raise RunFailed(f"{path}: {reason}. What was saved before is still there.") from error


def open_regular(path: Path, *, follow: bool = False) -> IO[bytes]:
    """Open an untrusted file for reading, without waiting if it is a named pipe; `follow` accepts links.

    Raises:
        UserError: it is not a regular file, cannot be read, or its path contains a link.
    """
    try:
        return open(resolve(path) if follow else path, "rb", opener=opener)
    except OSError as error:
        raise unreadable(path, error) from error


def read_limited(path: Path, limit: int) -> bytes:
    """Return the content of an untrusted file.

    Raises:
        UserError: it is larger than `limit` bytes, or cannot be read; see `open_regular`.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise UserError(Problem(str(path), f"{size:,} bytes are more than the {limit:,} accepted"))
        try:
            return file.read(limit)
        except OSError as error:
            raise unreadable(path, error) from error


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


def cannot_create(path: Path, error: OSError) -> UserError | RunFailed:
    """Return the exception for a file or folder that cannot be created: RunFailed if the disk is full."""
    reason = error.strerror or str(error)
    if error.errno in FULL:
        return RunFailed(f"{path}: could not be written ({reason}).")
    advice = "Start in a writable folder." if error.errno in READ_ONLY else ""
    return UserError(Problem(str(path), f"cannot be written ({reason})", advice=advice))


def unreadable(path: Path, error: OSError) -> UserError:
    """Return the exception for a file or folder that cannot be read."""
    is_regular = error.errno != errno.ENXIO
    return UserError(Problem(str(path), f"cannot be read ({error.strerror or error})" if is_regular else NOT_A_FILE))
