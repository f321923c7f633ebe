"""What is in a run or sweep folder: created, appended to, listed and removed without following a symbolic link.

A path that contains a link is refused. `trainer.files.resolve` the folder first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path
from typing import IO

from trainer.errors import Problem, RunFailed, UserError
from trainer.files import FOLDER, NEW, SEARCH, cannot_create, open_at, open_folder, opener, unreadable

ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
TORN = re.compile(r"\..+\.([1-9][0-9]*)\.tmp")


def append(path: Path) -> IO[bytes]:
    """Open a file for appending; create it if it is missing.

    A file with a second hard link is refused: the other name may be that of a file elsewhere.

    Raises:
        UserError: it is not a regular file, has a second hard link, or cannot be opened.
        RunFailed: the disk is full.
    """
    try:
        file = open(path, "ab", opener=opener)  # noqa: SIM115 the caller closes it
    except OSError as error:
        raise cannot_create(path, error) from error
    if (links := os.fstat(file.fileno()).st_nlink) > 1:
        file.close()
        reason = f"it has {links} names (hard links), and the others would change with it"
        raise UserError(Problem(str(path), reason, advice="Replace it by a copy of itself."))
    return file


def create(path: Path) -> None:
    """Create an empty file.

    Raises:
        OSError: it cannot be created; FileExistsError if anything is there, such as a link.
    """
    with open_folder(path.parent) as folder:
        os.close(open_at(path.name, NEW, folder))


def make_folder(path: Path) -> None:
    """Create a folder in an existing one, unless it exists.

    Raises:
        UserError: it cannot be created, or something else is there, such as a link to a folder.
        RunFailed: the disk is full.
    """
    try:
        with open_folder(path.parent) as parent:
            try:
                os.mkdir(path.name, dir_fd=parent)
            except FileExistsError:
                os.close(open_at(path.name, SEARCH | FOLDER, parent))
    except OSError as error:
        raise cannot_create(path, error) from error


def remove(path: Path) -> None:
    """Delete a file or link, if there is one.

    Raises:
        RunFailed: it cannot be deleted.
    """
    try:
        with open_folder(path.parent) as folder:
            os.unlink(path.name, dir_fd=folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunFailed(f"{path}: could not be deleted ({error.strerror}).") from error


def remove_torn(folder: Path, *, shared: bool = False) -> None:
    """Delete the temporary files of killed processes.

    Args:
        folder: the folder of the files.
        shared: whether other processes may write to it too; the files of living processes are left alone then.
    """
    for name in torn_files(folder, shared=shared):
        remove(folder / name)


def torn_files(folder: Path, *, shared: bool = False) -> list[str]:
    """Return the names of the files that `remove_torn` deletes."""
    matches = filter(None, map(TORN.fullmatch, names(folder)))
    return [match[0] for match in matches if not (shared and _is_alive(int(match[1])))]


def _is_alive(process: int) -> bool:
    """Return whether another process with this number runs. One that has ended, but is not reaped, does not."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    with contextlib.suppress(OSError):  # other systems than Linux have no /proc
        if Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z":
            return False
    return process != os.getpid()


def exists(path: Path) -> bool:
    """Return whether there is a file, folder or anything else at a path, also a link that leads nowhere.

    Raises:
        UserError: a folder on the way is a link or cannot be opened.
    """
    try:
        with open_folder(path.parent) as folder:
            os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno in ABSENT:
            return False
        raise unreadable(path, error) from error
    return True


def names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none if there is no such folder.

    Raises:
        UserError: it is a link or cannot be read.
    """
    try:
        with open_folder(folder, os.O_RDONLY) as descriptor:
            return sorted(os.listdir(descriptor))
    except OSError as error:
        if error.errno in ABSENT:
            return []
        raise unreadable(folder, error) from error
