"""How a run was started, and how it ended. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """The command line, or the call from Python that a command line could replace.

    Attributes:
        words: the command line, which may have started a whole sweep.
        started: `time.perf_counter()` at its start.
        embedded: whether another program called: a second signal is then that program's.
        quiet: whether only train.log receives what a run prints.
    """

    words: list[str]
    started: float
    embedded: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Ended:
    """The end of a command that trains a run or a sweep.

    Attributes:
        exit_code: the exit code of the command.
        folder: the folder of the run or sweep; None if a signal came before training began.
        signal: number of the signal that ended it; None if none did.
    """

    exit_code: int
    folder: Path | None
    signal: int | None = None
