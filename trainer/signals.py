"""SIGINT and SIGTERM as a flag that loops poll, so that no update is interrupted halfway."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType


class Interrupted(Exception):
    """SIGINT or SIGTERM was received; raised by `Signals.check`.

    Attributes:
        exit_code: see `Signals.exit_code`.
    """

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code


class Signals:
    """Context manager in which SIGINT and SIGTERM only set `received`.

    A second signal has its usual effect. The previous handlers are restored on exit.

    Attributes:
        received: number of the signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number

    def check(self) -> None:
        """Raise Interrupted if a signal has been received."""
        if self.received is not None:
            raise Interrupted(self.exit_code)

    @property
    def exit_code(self) -> int:
        """Exit code by the shell's convention: 128 plus the signal's number."""
        return 128 + (self.received or 0)
