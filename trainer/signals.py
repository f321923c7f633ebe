"""SIGINT, SIGTERM and SIGHUP as a flag that loops poll, so that no update is interrupted halfway."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """A signal was received; raised by `Signals.check`.

    Attributes:
        exit_code: see `Signals.exit_code`.
    """

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code


class Signals:
    """Context manager in which SIGINT, SIGTERM and SIGHUP only set `received`.

    A second SIGINT or SIGTERM ends the process. A second SIGHUP has no effect, because a terminal that is closed sends
    two at once: one from the kernel and one from the shell. A SIGHUP that is ignored on entry (`nohup`) stays ignored.
    The previous handlers are restored on exit. In a thread that is not the main one signals stay as they are.

    Args:
        ends_process: whether a second signal ends the process; otherwise it has the effect that it had before.

    Attributes:
        received: number of the signal, or None.
    """

    def __init__(self, *, ends_process: bool = True) -> None:
        self.ends_process = ends_process
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        in_main_thread = threading.current_thread() is threading.main_thread()  # Python allows handlers there alone
        for number in _not_ignored() if in_main_thread else ():
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
        elif number != signal.SIGHUP:
            signal.signal(number, signal.SIG_DFL if self.ends_process else self._previous[number])
            signal.raise_signal(number)

    def check(self) -> None:
        """Raise Interrupted if a signal has been received."""
        if self.received is not None:
            raise Interrupted(self.exit_code)

    @property
    def exit_code(self) -> int:
        """Exit code by the shell's convention: 128 plus the signal's number."""
        return 128 + (self.received or 0)


def ignore() -> None:
    """Ignore the signals in a child process whose parent decides when it ends."""
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def delayed() -> Iterator[None]:
    """Delay signals during the block, and in the processes that it forks until they call `restore_defaults`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def restore_defaults() -> None:
    """Let signals end this child process, whatever its parent does with them; `nohup` holds for it too."""
    for number in _not_ignored():
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)


def _not_ignored() -> list[int]:
    hangup_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in NUMBERS if not (number == signal.SIGHUP and hangup_ignored)]
