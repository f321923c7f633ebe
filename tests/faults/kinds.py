"""The kinds of faults: each is a function that tries one fault, chosen at random, and raises if a promise is broken."""

from __future__ import annotations

import importlib
import pkgutil
import random
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import faults
from faults.arena import Arena
from faults.outcome import Different, Lost

Try = Callable[[Arena, random.Random], None]


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        name: its name on the command line.
        attempt: tries one; everything about it is drawn from the generator.
        rows: rows of docs/reliability.md.
        thin: tries in the default tests.
        full: tries of `pytest -m faults`.
    """

    name: str
    attempt: Try
    rows: tuple[int, ...]
    thin: int
    full: int


KINDS: dict[str, Kind] = {}


def kind(name: str, *rows: int, thin: int = 0, full: int = 20) -> Callable[[Try], Try]:
    """Register a function as a kind of fault."""

    def register(attempt: Try) -> Try:
        KINDS[name] = Kind(name, attempt, rows, thin, full)
        return attempt

    return register


def load_kinds() -> dict[str, Kind]:
    """Return all kinds: those of every module of this package whose name ends with `_faults`."""
    for module in pkgutil.iter_modules(faults.__path__):
        if module.name.endswith("_faults"):
            importlib.import_module(f"faults.{module.name}")
    return KINDS


@dataclass
class Tally:
    """What the tries of one kind came to.

    Attributes:
        injected: faults that ended a command.
        failures: the seed and the message of each failure.
    """

    tries: int = 0
    injected: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)


def attempt(kind: Kind, arena: Arena, seed: int, tally: Tally) -> None:
    """Try a kind of fault once with a seed, and count what happens."""
    before = arena.faults
    try:
        kind.attempt(arena, random.Random(f"{kind.name} {seed}"))
    except Exception as error:
        what = {Different: "differences", Lost: "losses"}.get(type(error), "others")
        tally.counts[what] += 1
        place = traceback.extract_tb(error.__traceback__)[-1]
        tally.failures.append((seed, f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"))
    tally.tries += 1
    tally.injected += arena.faults - before
