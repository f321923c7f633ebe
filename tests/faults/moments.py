"""Moments of a command: every change of a file and every poll of the signals, counted in the order of events.

A fault happens at the n-th moment and not after a time, so that it can be repeated. `watch` runs in the child process,
before the command: it replaces the calls of Python that change files below a folder. Moments of forked processes are
counted together.
"""

from __future__ import annotations

import builtins
import io
import mmap
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.signals import Signals
from trainer.training.saver import Saver

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ACTIVITIES = ("fit", "validate", "_test")
# Functions of os that change files: the position of the path or file, and the option with the folder it is below.
CHANGES = {
    **dict.fromkeys(("write", "pwrite", "ftruncate", "fsync"), (0, "")),
    **dict.fromkeys(("unlink", "mkdir"), (0, "dir_fd")),
    **dict.fromkeys(("replace", "rename", "symlink", "link"), (1, "dst_dir_fd")),
}
Moment = Callable[[str, str], None]


class Counter:
    """A number that forked processes share."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    def next(self) -> int:
        """Return how often this was called before."""
        (count,) = struct.unpack("q", self._memory[:8])
        self._memory[:8] = struct.pack("q", count + 1)
        return count


def place_of(path: Any, folder: int | None = None) -> str:
    """Return the absolute path of a path, a path below an open folder, or an open file."""
    path = path.fileno() if hasattr(path, "fileno") else path
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    path = os.fsdecode(path)
    if folder is not None and not os.path.isabs(path):
        return os.path.join(place_of(folder), path)
    return os.path.abspath(path)


def watch(root: Path, moment: Moment, tear: Callable[[], bool]) -> None:
    """Call `moment(what, path)` before every change below `root` and at every poll of the signals.

    Args:
        root: only what changes below this folder counts.
        moment: may kill the process, or raise OSError.
        tear: whether the next write shall be cut in half; the moment "torn" follows it.
    """
    inside = str(root.resolve()) + os.sep
    original_open, os_open = builtins.open, os.open

    def notice(what: str, path: Any, folder: int | None = None) -> None:
        where = place_of(path, folder)
        if where.startswith(inside):
            moment(what, where[len(inside) :])

    class File(io.FileIO):
        def write(self, data: Any) -> int:
            where = place_of(self.fileno())
            notice("write", where)
            if where.startswith(inside) and tear():
                written = super().write(memoryview(data).cast("B")[: max(1, len(data) // 2)])
                moment("torn", where[len(inside) :])
                return written
            return super().write(data)

        def truncate(self, size: int | None = None) -> int:
            notice("truncate", self.fileno())
            return super().truncate(size)

    def opening(file: Any, mode: str = "r", buffering: int = -1, *more: Any, **options: Any) -> Any:
        if not set(mode) & set("wax+") or not place_of(file).startswith(inside):
            return original_open(file, mode, buffering, *more, **options)
        names = ("encoding", "errors", "newline", "closefd", "opener")
        options = dict(zip(names, more, strict=False)) | options
        opener = options.pop("opener", None)
        if opener is None and not isinstance(file, int):
            notice("open", file)
        raw = File(file, mode.replace("b", "").replace("t", ""), options.pop("closefd", True), opener)
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return raw if buffering == 0 else buffered
        return io.TextIOWrapper(buffered, line_buffering=buffering == 1, **options)

    def low_open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & WRITING:
            notice("open", path, dir_fd)
        return os_open(path, flags, mode, dir_fd=dir_fd)

    builtins.open = io.open = opening  # type: ignore[assignment]
    os.open = low_open
    for name, (position, folder) in CHANGES.items():
        _announce(name, position, folder, notice)
    _watch_polls(moment)


def _announce(name: str, position: int, folder: str, notice: Callable[[str, Any, int | None], None]) -> None:
    """Call `notice` before a function of `os`, with the argument at this position and the open folder it is below."""
    original = getattr(os, name)

    def announced(*words: Any, **options: Any) -> Any:
        notice(name, words[position], options.get(folder))
        return original(*words, **options)

    setattr(os, name, announced)


def _watch_polls(moment: Moment) -> None:
    check = Signals.check

    def checking(signals: Signals) -> None:
        moment("poll", _activity())
        check(signals)

    Signals.check = checking  # type: ignore[method-assign]


def _activity() -> str:
    """Return what the program is doing, from the functions that are running."""
    frame, activity = sys._getframe(2), "setup"
    for _ in range(12):
        name = frame.f_code.co_name
        if name in ACTIVITIES:
            activity = name.strip("_")
        if frame.f_back is None or name in ("_test", "validate"):
            break
        frame = frame.f_back
    return activity


def watch_saves(saved: Callable[[str, int], None]) -> None:
    """Call `saved(folder, step)` after every save of a run that the program believes to be complete."""
    save = Saver.save

    def saving(saver: Saver, state: Any) -> bool:
        complete = save(saver, state)
        if complete:
            saved(str(saver.folder), state.step)
        return complete

    Saver.save = saving  # type: ignore[method-assign]
