"""Successive halving with synchronous rungs: train all jobs briefly, continue the best (Jamieson & Talwalkar, 2016).

Which jobs survive follows from their values at the rungs alone, which the ledger keeps: a sweep that was killed and
resumed prunes the same jobs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.config.parse import stored_monitor
from trainer.config.sweep_keys import HalvingConfig
from trainer.records.ledger import FINAL, Entry
from trainer.records.metrics import MetricsRow, read_metrics

LOST = ("failed", "diverged", "interrupted")


@dataclass(frozen=True)
class Rung:
    """A step of halving: end some jobs, then train the others.

    Attributes:
        entries: jobs to train.
        epoch: epoch up to which they train; None trains to the end.
        pruned: jobs to end.
        pruned_at: epoch at which the jobs were compared.
        note: a line for the user, or the empty string.
    """

    entries: Sequence[Entry]
    epoch: int | None = None
    pruned: Sequence[Entry] = ()
    pruned_at: int = 0
    note: str = ""


def rung_epochs(settings: HalvingConfig, epochs: int) -> list[int]:
    """Return the epochs after which jobs are compared, all below `epochs`; none without halving."""
    rungs, epoch = [], settings.min_epochs
    while settings.factor is not None and epoch < epochs:
        rungs.append(epoch)
        epoch *= settings.factor
    return rungs


def planned_share(settings: HalvingConfig, epochs: Sequence[int]) -> float:
    """Return the share of all epochs that is trained if no job ends by itself; `epochs` are those of each job."""
    assert settings.factor is not None
    left, trained, before, longest = len(epochs), 0, 0, max(epochs)
    for rung in [*rung_epochs(settings, longest), longest]:
        trained += left * (rung - before)
        before, left = rung, math.ceil(left / settings.factor)
    return trained / (len(epochs) * longest)


def value_at(entry: Entry, folder: Path, epoch: int) -> float | None:
    """Return the best monitored value of a job in a sweep's folder up to an epoch, or None.

    It is taken from the ledger if the job stopped there or ended before, otherwise from metrics.csv.
    """
    if entry.reached and entry.state in (*FINAL, *LOST):
        epoch = min(epoch, max(entry.reached))
    if epoch in entry.reached:
        return entry.reached[epoch]
    return _best(entry, _history(folder / entry.name), epoch)


def reached(entry: Entry, folder: Path) -> tuple[int, float | None] | None:
    """Return the epochs and the best value that a job has reached; None if it has not been validated yet."""
    rows = _history(folder / entry.name)
    epoch = max((row.epoch for row in rows), default=None)
    return None if epoch is None else (epoch, _best(entry, rows, epoch))


def _best(entry: Entry, rows: Sequence[MetricsRow], epoch: int) -> float | None:
    monitor, better = stored_monitor(entry.stored)
    best = max if better == "max" else min
    values = [row[monitor] for row in rows if row.epoch <= epoch]
    return best((value for value in values if value is not None), default=None)


def _trained_epochs(entry: Entry, folder: Path) -> int:
    """Return the epochs that an ended job had trained at its last validation."""
    if entry.reached:
        return max(entry.reached)
    return max((row.epoch for row in _history(folder / entry.name)), default=0)


def _history(folder: Path) -> list[MetricsRow]:
    """Return the rows of a job's metrics.csv; none if it has not been validated yet."""
    try:
        return read_metrics(folder / "metrics.csv")
    except FileNotFoundError:
        return []


def losers(entries: Sequence[Entry], folder: Path, epoch: int, factor: int) -> list[Entry]:
    """Return the jobs to end after a rung: all but the best one in `factor`; ties go to the earlier job.

    Without any value to compare, no job is ended.
    """
    values = {e.number: value_at(e, folder, epoch) for e in entries}
    if all(value is None for value in values.values()):
        return []
    sign = 1 if stored_monitor(entries[0].stored)[1] == "min" else -1
    order = sorted(entries, key=lambda e: (values[e.number] is None, sign * (values[e.number] or 0.0), e.number))
    return order[math.ceil(len(entries) / factor) :]


def rungs(settings: HalvingConfig, entries: Sequence[Entry], folder: Path) -> Iterator[Rung]:
    """Yield the rungs of a sweep, a single one without halving.

    The jobs of each must have been trained before the next one is requested.
    """
    alive, pruned, pruned_at, note = list(entries), list[Entry](), 0, ""
    for last_epoch in rung_epochs(settings, max((int(entry.stored["epochs"]) for entry in entries), default=0)):
        assert settings.factor is not None  # otherwise there are no such epochs
        yield Rung(alive, last_epoch, pruned, pruned_at, note)
        # A job that failed or diverged later took part in this comparison, so it takes part again after a resume.
        alive = [e for e in alive if e.state not in LOST or _trained_epochs(e, folder) >= last_epoch]
        pruned, pruned_at, note = [], last_epoch, ""
        if len(alive) <= 1:
            break
        worst = losers(alive, folder, last_epoch, settings.factor)
        if not worst:
            note = f"halving    no job has a {alive[0].stored['monitor']} after epoch {last_epoch}: all go on"
        pruned = [entry for entry in worst if entry.state not in ("done", "pruned")]
        ended = {entry.number for entry in worst}
        alive = [entry for entry in alive if entry.number not in ended]
    yield Rung(alive, None, pruned, pruned_at, note)


def saved_share(entries: Sequence[Entry], folder: Path) -> float:
    """Return the share of all epochs that pruned jobs did not train."""
    pruned = [entry for entry in entries if entry.state == "pruned"]
    saved = sum(int(entry.stored["epochs"]) - _trained_epochs(entry, folder) for entry in pruned)
    return saved / sum(int(entry.stored["epochs"]) for entry in entries)
