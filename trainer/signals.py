"""Ctrl-C and SIGTERM set a flag that every loop looks at; nothing is torn out of an update."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType


class Interrupted(Exception):
    """The user or the system asked the run to stop."""


class Signals:
    """While entered, SIGINT and SIGTERM only set `received`; a second one kills as usual."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number

    def check(self) -> None:
        """
        Raises:
            Interrupted: once a signal has come.
        """
        if self.received is not None:
            raise Interrupted

    @property
    def exit_code(self) -> int:
        return 128 + (self.received or 0)
