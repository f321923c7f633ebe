"""Successive halving with synchronous rungs: all jobs train a little, the best go on (Jamieson, Talwalkar 2016).

What is kept follows from the jobs' metrics.csv alone, so a sweep that is killed and resumed prunes the same jobs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.config.keys import HalvingConfig
from trainer.data.metrics import DIRECTIONS
from trainer.records.ledger import Entry
from trainer.records.metrics import read_metrics

LOST = ("failed", "diverged", "interrupted")


def rungs(settings: HalvingConfig, epochs: int) -> list[int]:
    """The epochs after which jobs are compared, all below `epochs`."""
    assert settings.factor is not None
    found, at = [], settings.min_epochs
    while at < epochs:
        found.append(at)
        at *= settings.factor
    return found


def planned_share(settings: HalvingConfig, epochs: Sequence[int]) -> float:
    """The share of all epochs that is trained where no job ends by itself; epochs of each job."""
    assert settings.factor is not None
    left, trained, before, longest = len(epochs), 0, 0, max(epochs)
    for rung in [*rungs(settings, longest), longest]:
        trained += left * (rung - before)
        before, left = rung, math.ceil(left / settings.factor)
    return trained / (len(epochs) * longest)


def value_at(place: Path, monitor: str, epoch: int) -> float | None:
    """The best monitored value of a job up to an epoch; None where it has none."""
    try:
        rows = read_metrics(place / "metrics.csv")
    except FileNotFoundError:
        return None
    values = [row[monitor] for row in rows if row.epoch <= epoch]
    best = max if DIRECTIONS[monitor] == "max" else min
    return best((value for value in values if value is not None), default=None)


def _trained(place: Path) -> float:
    """Epochs that a job has behind it at its last validation."""
    try:
        return max((row.epoch for row in read_metrics(place / "metrics.csv")), default=0)
    except FileNotFoundError:
        return 0


def losers(entries: Sequence[Entry], folder: Path, epoch: int, factor: int) -> list[Entry]:
    """Those that do not go on after a rung: all but the best one in `factor`, of equal ones the earlier.

    None where no job has a value: their numbers say nothing of them.
    """
    values = {e.number: value_at(folder / e.name, str(e.stored["monitor"]), epoch) for e in entries}
    if all(value is None for value in values.values()):
        return []
    sign = 1 if DIRECTIONS[str(entries[0].stored["monitor"])] == "min" else -1
    order = sorted(entries, key=lambda e: (values[e.number] is None, sign * (values[e.number] or 0.0), e.number))
    return order[math.ceil(len(entries) / factor) :]


def run(
    settings: HalvingConfig,
    entries: Sequence[Entry],
    folder: Path,
    train: Callable[[Sequence[Entry], int | None], bool],
    prune: Callable[[Entry, int], None],
    say: Callable[[str], None],
) -> None:
    """Trains all jobs from rung to rung.

    Args:
        train: brings jobs to an epoch, or to their end; whether to go on.
        prune: ends a job at an epoch.
        say: tells of what could not be done.
    """
    assert settings.factor is not None
    alive = list(entries)
    for rung in rungs(settings, max(int(entry.stored["epochs"]) for entry in entries)):
        if not train(alive, rung):
            return
        # What broke off later counted at this rung, so it counts again when the sweep is resumed.
        alive = [e for e in alive if e.state not in LOST or _trained(folder / e.name) >= rung]
        if len(alive) <= 1:
            break
        lost = losers(alive, folder, rung, settings.factor)
        if not lost:
            say(f"halving    no job has a {alive[0].stored['monitor']} after epoch {rung}: all go on")
        for entry in lost:
            if entry.state not in ("done", "pruned"):
                prune(entry, rung)
        gone = {entry.number for entry in lost}
        alive = [entry for entry in alive if entry.number not in gone]
    train(alive, None)


def saved_share(entries: Sequence[Entry], folder: Path) -> float:
    """The share of all epochs that pruned jobs did not train."""
    planned = sum(int(entry.stored["epochs"]) for entry in entries)
    saved = 0.0
    for entry in entries:
        if entry.state == "pruned":
            saved += int(entry.stored["epochs"]) - _trained(folder / entry.name)
    return saved / planned if planned else 0.0
