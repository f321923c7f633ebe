"""The leaderboard of a sweep: a row per job, best first, and a table of settings, aggregated over seeds and folds."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from trainer.config.effects import keys_where
from trainer.config.overrides import value_at
from trainer.config.parse import stored_monitor, stored_value
from trainer.records.ledger import FINAL, Entry
from trainer.records.results import Results, results_or_failure
from trainer.records.statistics import LEVEL, paired, quantile, welch
from trainer.records.table import write_csv

REPEATED = tuple(keys_where(repeats=True))  # keys that repeat a setting instead of changing it
PAIRED = tuple(key for key in REPEATED if key != "trial")  # a trial draws the setting: others cannot share it


@dataclass
class Row:
    """A job and its results, which are None until the job has any."""

    entry: Entry
    results: Results | None = None

    @cached_property
    def ranking(self) -> tuple[str, str]:
        """The column that ranks the job, and whether its `max` or its `min` is the best."""
        return stored_monitor(self.entry.stored)

    @property
    def monitor(self) -> str:
        """The column that ranks the job."""
        return self.ranking[0]

    @property
    def sign(self) -> int:
        """1 if the smallest value of `monitor` is the best, else -1."""
        return 1 if self.ranking[1] == "min" else -1

    @property
    def value(self) -> float | None:
        """The monitored value at the best validation."""
        return self.results.value(self.monitor) if self.results else None

    def setting(self, key: str) -> Any:
        """Return the job's value of a key, or its option of a group."""
        if key in self.entry.varies or key in self.entry.choices:
            return self.entry.varies.get(key, self.entry.choices.get(key))
        return value_at(self.entry.stored, key)

    @property
    def repeat(self) -> tuple[str, ...]:
        """The seeds and the fold, which jobs of two settings must share to be paired."""
        return tuple(repr(self.setting(key)) for key in PAIRED)

    @property
    def test(self) -> float | None:
        """The headline metric of the test: accuracy, or the root mean squared error."""
        return self.results.headline if self.results else None


@dataclass
class Group:
    """The jobs of a setting, which differ only in keys that repeat it, such as seed and fold.

    Attributes:
        varies: the setting.
        rows: all its jobs, whatever their state.
        standing: "best"; "tied" if it does not differ from the best at the 5 % level; else empty.
    """

    varies: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    standing: str = ""

    @property
    def finished(self) -> list[Row]:
        """The jobs that count: done, and with a value."""
        return [row for row in self.rows if row.entry.state == "done" and row.value is not None]

    @property
    def values(self) -> list[float]:
        """The monitored values of the finished jobs."""
        return [row.value for row in self.finished if row.value is not None]

    @property
    def missing(self) -> int:
        """Number of jobs that do not count: they failed, diverged, were pruned, or have not run yet."""
        return len(self.rows) - len(self.finished)

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def interval(self) -> float | None:
        """Half the width of the 95 % confidence interval of the mean, by Student's t."""
        n = len(self.values)
        return None if self.std is None else quantile(0.975, n - 1) * self.std / math.sqrt(n)

    def tied(self, best: Group) -> bool:
        """Return whether the difference from the best setting is not significant at the 5 % level.

        The t test is paired if both settings have the same seeds and folds, each once, whatever else sets them apart;
        otherwise it is Welch's. Single values are not tied.
        """
        if min(len(self.values), len(best.values)) < 2:
            return False
        mine, its = ({row.repeat: row.value or 0.0 for row in group.finished} for group in (self, best))
        if mine.keys() == its.keys() and len(mine) == len(self.values) == len(best.values):
            return paired([mine[repeat] for repeat in mine], [its[repeat] for repeat in mine]) >= LEVEL
        return welch(self.values, best.values) >= LEVEL


def read_rows(folder: Path, entries: Iterable[Entry], cache: dict[int, Row]) -> list[Row]:
    """Return a row for each job of a sweep. Rows of finished jobs are kept in `cache` by number."""
    rows = []
    for entry in entries:
        row = cache.get(entry.number)
        if row is None:
            row = Row(entry, results_or_failure(folder / entry.name))
            if entry.state in FINAL:
                cache[entry.number] = row
        rows.append(row)
    return rows


def states(entries: Iterable[Entry]) -> str:
    """Return how many jobs are in each state, such as `3 done, 1 failed`."""
    return ", ".join(f"{count} {state}" for state, count in Counter(entry.state for entry in entries).items())


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Return the rows, best first: done jobs, then other jobs with a value, then jobs without one.

    Equal jobs keep the order of the sweep. If jobs monitor different columns, each column is ranked separately.
    """
    monitors = list(dict.fromkeys(row.monitor for row in rows))

    def place(row: Row) -> tuple[Any, ...]:
        value = row.value
        is_done = row.entry.state == "done"
        return (value is None, not is_done, monitors.index(row.monitor), row.sign * (value or 0.0), row.entry.number)

    return sorted(rows, key=place)


def grouped(rows: Sequence[Row]) -> list[Group]:
    """Return the settings, best mean first; empty if none was repeated, or jobs monitor different columns.

    A setting with missing jobs comes after the complete ones: the mean of the others is misleading if a setting
    sometimes fails.
    """
    groups: dict[str, Group] = {}
    keys = [key for key in dict.fromkeys(key for row in rows for key in row.entry.varies) if key not in REPEATED]
    for row in rows:
        varies = {key: row.setting(key) for key in keys}
        groups.setdefault(repr(varies), Group(varies)).rows.append(row)
    if len({row.monitor for row in rows}) != 1 or not any(len(group.rows) > 1 for group in groups.values()):
        return []
    sign = rows[0].sign
    order = sorted(groups.values(), key=lambda g: (g.mean is None, g.missing > 0, sign * (g.mean or 0.0)))
    if order[0].mean is not None:
        order[0].standing = "best"
    for group in order[1:]:
        group.standing = "tied" if group.tied(order[0]) else ""
    return order


def winners(rows: Sequence[Row], groups: Sequence[Group]) -> list[Row]:
    """Return all jobs of the best setting, or the best job if no setting was repeated."""
    if groups:
        return groups[0].finished
    return [row for row in ranked(rows)[:1] if row.entry.state == "done" and row.value is not None]


def table(rows: Sequence[Row], groups: Sequence[Group]) -> tuple[list[str], list[list[Any]]]:
    """Return header and cells of the leaderboard, best first; None is an empty cell.

    A best validation inside an epoch has its step, in a column `best_step`, in place of its epoch.
    """
    won = {row.entry.number for row in winners(rows, groups)}
    keys = list(dict.fromkeys(key for row in rows for key in row.entry.varies))
    monitors = sorted({row.monitor for row in rows})
    header = ["rank", "job", "state", *keys, *(monitors if len(monitors) == 1 else ["monitor", "value"])]
    inside = any(row.results is not None and row.results.best_inside for row in rows)
    cells = []
    for rank, row in enumerate(ranked(rows), 1):
        value = [row.value] if len(monitors) == 1 else [row.monitor, row.value]
        test = row.test if _is_shown(row, row.entry.number in won) else None
        results = row.results or Results("")
        best = [None, results.best_step] if results.best_inside else [results.best_epoch, None]
        cells.append([
            rank, row.entry.name, row.entry.state, *(row.setting(key) for key in keys), *value, *best[: 1 + inside],
            row.results and results.epochs, test, results.seconds.get("training"), row.entry.reason or None,
        ])  # fmt: skip
    moments = ["best_epoch", "best_step"][: 1 + inside]
    return [*header, *moments, "trained", "test", "seconds", "reason"], cells


def group_table(groups: Sequence[Group], monitor: str) -> tuple[list[str], list[list[Any]]]:
    """Return header and cells of the table of settings, aggregated over seeds and folds."""
    header = [*groups[0].varies, f"mean {monitor}", "std", "95 % interval +-", "n", "missing", "standing"]
    header += ["test", "test std"]
    cells = []
    for group in groups:
        figures = [group.mean, group.std, group.interval, len(group.values), group.missing or None]
        tests = [row.test for row in group.finished if row.test is not None and _is_shown(row, group is groups[0])]
        tested = [statistics.fmean(tests) if tests else None, statistics.stdev(tests) if len(tests) > 1 else None]
        cells.append([*group.varies.values(), *figures, group.standing or None, *tested])
    optional = ("missing", "standing", "test", "test std")
    shown = [i for i, name in enumerate(header) if name not in optional or any(row[i] is not None for row in cells)]
    return [header[i] for i in shown], [[row[i] for i in shown] for row in cells]


def _is_shown(row: Row, won: bool) -> bool:
    """Return whether to show a job's test: with `test=auto` only while the job is a winner, as winners may change."""
    return won or stored_value(row.entry.stored, "test") is not None


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Write leaderboard.csv, and leaderboard_groups.csv if settings were repeated."""
    groups = grouped(rows)
    write_csv(folder / "leaderboard.csv", *table(rows, groups))
    if groups:
        write_csv(folder / "leaderboard_groups.csv", *group_table(groups, rows[0].monitor))
