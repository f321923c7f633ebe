"""The phases of a training step, marked for torch's profiler while one is running.

`record_function` costs several microseconds even when nothing is recorded, so phases are a null context by default.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch.profiler import record_function

PREFIX = "phase: "  # of the names in a trace

_NOTHING: AbstractContextManager[Any] = nullcontext()
_recording = False


def phase(name: str) -> AbstractContextManager[Any]:
    """Return a context manager that marks a phase in a trace; it does nothing unless phases are recorded."""
    return record_function(PREFIX + name) if _recording else _NOTHING


@contextmanager
def recorded_phases() -> Iterator[None]:
    """Mark phases for the profiler while entered."""
    global _recording
    _recording = True
    try:
        yield
    finally:
        _recording = False
