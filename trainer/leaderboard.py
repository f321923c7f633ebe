"""The table of a sweep: a row per job, best first, and what the settings are worth over their seeds and folds."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainer.config import DIRECTIONS
from trainer.files import write_atomically
from trainer.folder import read_results
from trainer.ledger import FINAL, Entry

REPEATED = ("seed", "data.seed", "data.fold", "trial")  # keys that repeat a setting instead of changing it
TEST_FIGURES = ("accuracy", "rmse")


@dataclass
class Row:
    """A job and what came of it.

    Attributes:
        value: of the monitored column at the best validation; None where there is none.
    """

    entry: Entry
    monitor: str
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float | None:
        part, _, name = self.monitor.partition("_")
        return (self.results.get(part) or {}).get(name)

    def setting(self, key: str) -> Any:
        """What the job has at a key or group, whether it set the job apart when it was added or not."""
        if key in self.entry.varies or key in self.entry.choices:
            return self.entry.varies.get(key, self.entry.choices.get(key))
        value: Any = self.entry.stored
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value

    @property
    def test(self) -> float | None:
        """Accuracy of the test, or its root mean squared error."""
        test = self.results.get("test") or {}
        return next((test[name] for name in TEST_FIGURES if test.get(name) is not None), None)


@dataclass
class Group:
    """Rows that differ in their seed or fold alone.

    Attributes:
        values: of the monitored column.
        interval: half the width of the 95 % interval of the mean, by Student's t; None for a single value.
    """

    varies: dict[str, Any]
    values: list[float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def interval(self) -> float | None:
        n = len(self.values)
        return None if self.std is None else student_t(0.975, n - 1) * self.std / math.sqrt(n)


def read_rows(folder: Path, entries: Iterable[Entry], known: dict[int, Row]) -> list[Row]:
    """A row for each job of a sweep's folder; `known` rows of finished jobs are taken as they are, and added to."""
    rows = []
    for entry in entries:
        row = known.get(entry.number)
        if row is None:
            monitor = str(entry.stored.get("monitor", "valid_loss"))
            row = Row(entry, monitor, read_results(folder / entry.name) or {})
            if entry.state in FINAL:
                known[entry.number] = row
        rows.append(row)
    return rows


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Best first, of equal ones the earlier; then what is not done, pruned, failed or otherwise; without a value last.

    Where jobs monitor different columns, each column's are ranked by themselves.
    """
    monitors = list(dict.fromkeys(row.monitor for row in rows))

    def place(row: Row) -> tuple[Any, ...]:
        sign = 1 if DIRECTIONS.get(row.monitor, "min") == "min" else -1
        value = row.value
        unlike = row.entry.state != "done"
        return (value is None, unlike, monitors.index(row.monitor), sign * (value or 0.0), row.entry.number)

    return sorted(rows, key=place)


def grouped(rows: Sequence[Row]) -> list[Group]:
    """The settings, best mean first; empty where no setting was repeated, or where jobs monitor different columns."""
    groups: dict[str, Group] = {}
    keys = [key for key in dict.fromkeys(key for row in rows for key in row.entry.varies) if key not in REPEATED]
    for row in rows:
        varies = {key: row.setting(key) for key in keys}
        if row.value is not None and row.entry.state == "done":
            groups.setdefault(repr(varies), Group(varies, [])).values.append(row.value)
    if len({row.monitor for row in rows}) != 1 or not any(len(group.values) > 1 for group in groups.values()):
        return []
    sign = 1 if DIRECTIONS.get(rows[0].monitor, "min") == "min" else -1
    return sorted(groups.values(), key=lambda group: sign * group.mean)


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    """Header and cells of the leaderboard, best first; None where there is nothing to say."""
    keys = list(dict.fromkeys(key for row in rows for key in row.entry.varies))
    monitors = sorted({row.monitor for row in rows})
    header = ["rank", "job", "state", *keys, *(monitors if len(monitors) == 1 else ["monitor", "value"])]
    cells = []
    for rank, row in enumerate(ranked(rows), 1):
        value = [row.value] if len(monitors) == 1 else [row.monitor, row.value]
        # An earlier winner that a resumed sweep has put behind another keeps its figures in its own folder.
        test = row.test if rank == 1 or row.entry.stored.get("test") != "auto" else None
        seconds = (row.results.get("seconds") or {}).get("total")
        cells.append([
            rank, row.entry.name, row.entry.state, *(row.setting(key) for key in keys), *value,
            row.results.get("best_epoch"), row.results.get("epochs"), test, seconds, row.entry.reason or None,
        ])  # fmt: skip
    return [*header, "best_epoch", "epochs", "test", "seconds", "reason"], cells


def group_table(groups: Sequence[Group], monitor: str) -> tuple[list[str], list[list[Any]]]:
    """Header and cells of the settings over their seeds and folds."""
    keys = list(dict.fromkeys(key for group in groups for key in group.varies))
    cells = [[*(g.varies.get(key) for key in keys), g.mean, g.std, g.interval, len(g.values)] for g in groups]
    return [*keys, f"mean {monitor}", "std", "95 % interval +-", "n"], cells


def write(folder: Path, rows: Sequence[Row]) -> None:
    """leaderboard.csv, and leaderboard_groups.csv where settings were repeated."""
    write_atomically(folder / "leaderboard.csv", _csv(*table(rows)))
    groups = grouped(rows)
    if groups:
        write_atomically(folder / "leaderboard_groups.csv", _csv(*group_table(groups, rows[0].monitor)))


def _csv(header: list[str], cells: list[list[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if cell is None else cell for cell in row] for row in cells])
    return text.getvalue().encode()


@lru_cache(maxsize=256)
def student_t(probability: float, freedom: int) -> float:
    """The quantile of Student's t, by Simpson's rule and bisection; exact to about 1e-9 for 1 degree and up."""
    constant = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)

    # The substitution t = tan(angle) makes the tails, which for one degree of freedom are long, finite.
    def density(angle: float) -> float:
        t, cos = math.tan(angle), math.cos(angle)
        return constant * (1 + t * t / freedom) ** (-(freedom + 1) / 2) / (cos * cos)

    def below(angle: float, intervals: int = 400) -> float:
        step = angle / intervals
        inner = sum((4 if i % 2 else 2) * density(i * step) for i in range(1, intervals))
        return 0.5 + (density(0.0) + inner + density(angle)) * step / 3

    low, high = 0.0, math.pi / 2 - 1e-9
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < probability else (low, middle)
    return math.tan(low)
