"""Output that may go away while the program runs: a closed pipe or terminal, or a full disk below a log.

Training does not depend on who reads its output. A command that only prints ends like others when its reader is gone.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from pathlib import Path
from typing import IO, Any, TextIO

from trainer.records.contents import append


class OutputLost(BaseException):
    """Stdout cannot be written to, and the program exists to print.

    Not an Exception: click, Hydra and rich would print a traceback or end the program with an exit code of their own.
    """

    def __init__(self, error: OSError) -> None:
        self.error = error


class OutputFile(io.FileIO):
    """A file to which nothing is written after the first write that failed.

    Args:
        file: a descriptor, which is closed with this object if `closefd`.
        label: its name in the note that it was lost, which goes to stderr; None for no note.

    Attributes:
        essential: whether its loss raises OutputLost instead.
        lost: whether a write has failed.
    """

    def __init__(self, file: int, label: str | None, *, closefd: bool = True) -> None:
        super().__init__(file, "wb", closefd=closefd)
        self.label, self.essential, self.lost = label, False, False

    def write(self, data: Any) -> int:
        """Write bytes, or drop them if the file is lost; return their number, or that of a part that fitted."""
        if not self.lost:
            try:
                while (size := super().write(data)) is None:  # another program made it non-blocking, and it is full
                    select.select([], [self], [])
                return size
            except OSError as error:
                self._lose(error)
        return memoryview(data).nbytes

    def close(self) -> None:
        """Close the file; on a network's disk a full one may only show now."""
        with contextlib.suppress(OSError):
            super().close()

    def _lose(self, error: OSError) -> None:
        self.lost = True
        if self.essential:
            raise OutputLost(error) from error
        if self.label is not None:
            note = f"{self.label} cannot be written any more ({error.strerror}); the program continues without it\n"
            with contextlib.suppress(OSError):
                os.write(2, note.encode())  # not sys.stderr, which may be in the middle of another line


class _Text(io.TextIOWrapper):
    """Text of a standard stream. Closing it, as some code does with `sys.stdout`, leaves it open for the others."""

    def close(self) -> None:
        self.flush()


def open_log(path: Path) -> IO[str]:
    """Open a text file for appending line by line; it may be lost later. For `Raises`, see `append`."""
    with append(path) as file:
        raw = OutputFile(os.dup(file.fileno()), path.name)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True)


def open_streams() -> None:
    """Make stdout and stderr safe to lose; call it at the start of a program, before any file is opened.

    Until `survive_loss`, a loss of stdout raises OutputLost. Streams that are closed lead to nowhere: a file that is
    opened later would take their descriptor and receive what libraries print. Streams that other code has replaced
    stay as they are.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free descriptor, this one
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 open as long as the program
    if sys.stdout is sys.__stdout__:
        sys.stdout = _standard(1, "stdout", sys.stdout)
        _raw(sys.stdout).essential = True
    if sys.stderr is sys.__stderr__:
        sys.stderr = _standard(2, None, sys.stderr)


def survive_loss() -> None:
    """Continue without stdout if it is lost from now on."""
    if isinstance(sys.stdout, _Text):
        _raw(sys.stdout).essential = False


def redirect(path: Path) -> None:
    """Append stdout and stderr, also that of libraries in C, to a file, which may be lost later.

    For `Raises`, see `append`.
    """
    with append(path) as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = _standard(1, None), _standard(2, None)


def _standard(descriptor: int, label: str | None, before: TextIO | None = None) -> _Text:
    """Return a standard stream in the place of `before`."""
    file = io.BufferedWriter(OutputFile(descriptor, label, closefd=False))
    encoding = "utf-8" if before is None else before.encoding
    unbuffered = isinstance(before, io.TextIOWrapper) and (before.line_buffering or before.write_through)
    # Names may hold characters that the terminal's encoding lacks: no reason to end a run either.
    errors = before.errors if before is not None and before.errors != "strict" else "backslashreplace"
    return _Text(file, encoding=encoding, errors=errors, line_buffering=descriptor == 2 or unbuffered)


def _raw(stream: TextIO) -> OutputFile:
    raw = stream.buffer.raw  # type: ignore[attr-defined]
    assert isinstance(raw, OutputFile)
    return raw
