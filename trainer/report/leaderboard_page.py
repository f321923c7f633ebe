"""leaderboard.html: a sweep as one self-contained page, updated while the sweep runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any, TypeVar

from trainer.errors import show
from trainer.files import write_atomically
from trainer.records.leaderboard import REPEATED, Group, Row, group_table, grouped, ranked, states, table, winners
from trainer.records.ledger import FINAL
from trainer.records.metrics import MetricsRow, points, read_metrics, x_axis
from trainer.report import charts, page

EVERY_SECONDS = 3.0  # minimum time between two updates
MAX_SHARE = 0.02  # of the sweep's time that updates may take
SELECTED = 5  # best jobs, whose curves are shown at first
LOG_FROM = 20  # ratio of the largest to the smallest value from which an axis is logarithmic
MAX_POINTS, MAX_ALL_POINTS = 150, 100_000  # of a curve, and of all curves together

T = TypeVar("T")


class Page:
    """The page of a sweep that `words` started; `rows` returns its current rows.

    Attributes:
        stale: whether something has changed since the page was written.
    """

    def __init__(self, folder: Path, words: Sequence[str], rows: Callable[[], Sequence[Row]]) -> None:
        self.folder, self.words, self.rows = folder, words, rows
        self.stale, self.due = False, 0.0
        self._histories: dict[int, list[MetricsRow]] = {}  # cache, of finished jobs

    def draw(self, *, now: bool = False) -> None:
        """Write the page, if `now`, or if something has changed and the last update is long enough ago."""
        begin = time.monotonic()
        if not (now or (self.stale and begin >= self.due)):
            return
        self.stale = False
        write_atomically(self.folder / "leaderboard.html", self.html().encode())
        end = time.monotonic()
        self.due = end + max(EVERY_SECONDS, (end - begin) / MAX_SHARE)

    def html(self) -> str:
        """Return the page for the current rows."""
        rows = ranked(self.rows())
        groups = grouped(rows)
        winning = winners(rows, groups)
        counts = states(row.entry for row in rows)
        parts = [f"<h1>Sweep {escape(self.folder.name)}</h1>", f"<p>{len(rows)} jobs: {escape(counts)}</p>"]
        if any(row.entry.state not in (*FINAL, "failed") for row in rows):
            parts.append(f"<p>As of {time.strftime('%H:%M:%S')}; reload to see more.</p>")
        if self.words:
            parts.append(f"<p><code>train -m {escape(' '.join(self.words))}</code></p>")
        parts += [f"<p>{escape(_best(winning, groups))}</p>"] if winning else []
        if groups:
            parts.append("<h2>Settings, over their seeds and folds</h2>")
            parts.append(page.table("Settings", *group_table(groups, rows[0].monitor), best=(0,)))
        parts.append("<h2>Jobs, best first</h2><p>The curves of the ticked jobs are below.</p>")
        best = [index for index, row in enumerate(rows) if row in winning]
        header, cells = table(rows, groups)
        for row, line in zip(rows, cells, strict=True):
            line[header.index("job")] = row.entry.number  # its name only repeats what the other columns say
        parts.append(page.table("Jobs", header, cells, best=best, jobs=range(len(rows))))
        data = self._data(rows, [*best, *range(len(rows))])
        parts.append(
            '<h2>Curves</h2>\n<div class="controls"><button id="best">the best</button><button id="none">none</button>'
            '</div>\n<ul class="legend" id="legend"></ul>\n<div class="plots" id="curves"></div>'
        )
        if data["axes"]:
            parts.append('<h2>What each key does</h2>\n<div class="plots" id="axes"></div>')
        parts.append(charts.embedded(data))
        title = f"Sweep {self.folder.name}"
        return page.page(title, "\n".join(parts), style=charts.STYLE, script=charts.SCRIPT)

    def _data(self, rows: Sequence[Row], first: Sequence[int]) -> dict[str, Any]:
        """Return the data of `trainer.report.charts`; the curves of the `first` jobs are selected."""
        monitors = list(dict.fromkeys(row.monitor for row in rows))
        columns = list(dict.fromkeys([*monitors, "train_loss", "valid_loss"]))
        most = max(min(MAX_POINTS, MAX_ALL_POINTS // max(len(rows) * len(columns), 1)), 2)
        axes = _axes([row for row in rows if row.monitor == monitors[0]])
        histories = [self._history(row) for row in rows]
        axes_used = {
            x_axis([each.moment for each in history], row.results.steps_per_epoch if row.results else None)
            for row, history in zip(rows, histories, strict=True)
        }
        across = "step" if "step" in axes_used else "epoch"
        jobs = []
        for row, history in zip(rows, histories, strict=True):
            curves = {name: curve for name in columns if (curve := points(history, name, across))}
            value = row.value if row.entry.state == "done" and row.monitor == monitors[0] else None
            jobs.append({
                "name": row.entry.name,
                "value": value,
                "at": [axis["at"].get(row.entry.number) for axis in axes],
                "curves": {name: _rounded(_thinned(curve, most)) for name, curve in curves.items()},
            })  # fmt: skip
        described = [{name: axis[name] for name in ("key", "log", "whole", "labels") if name in axis} for axis in axes]
        shown = [index for index in dict.fromkeys(first) if jobs[index]["curves"]][:SELECTED]
        return {
            "charts": columns,
            "across": across,
            "monitor": (monitors or [""])[0],
            "axes": described,
            "jobs": jobs,
            "shown": shown,
        }

    def _history(self, row: Row) -> list[MetricsRow]:
        """Return at most MAX_POINTS rows of a job's metrics.csv."""
        cached = self._histories.get(row.entry.number)
        if cached is not None:
            return cached
        try:
            history = _thinned(read_metrics(self.folder / row.entry.name / "metrics.csv"), MAX_POINTS)
        except FileNotFoundError:  # the job has not been validated yet
            return []
        if row.entry.state in FINAL:
            self._histories[row.entry.number] = history
        return history


def _best(winning: Sequence[Row], groups: Sequence[Group]) -> str:
    """Return a sentence about the winner."""
    tests = [row.test for row in winning if row.test is not None]
    tested = f"; on the test split {statistics.fmean(tests):.4g}" if tests else ""
    tested += f" \N{PLUS-MINUS SIGN} {statistics.stdev(tests):.2g}" if len(tests) > 1 else ""
    if not groups:
        return f"Best: {winning[0].entry.name}, {winning[0].monitor} {winning[0].value:.4g}{tested}"
    name = ", ".join(f"{key}={show(value)}" for key, value in groups[0].varies.items())
    basis = f"mean of {len(winning)}" if len(winning) > 1 else "one job"
    return f"Best: {name or 'the setting'}, {winning[0].monitor} {groups[0].mean:.4g} ({basis}){tested}"


def _axes(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return an axis for each key that varies, with the position of each job; seeds and folds come last."""
    keys = list(dict.fromkeys(key for row in rows for key in row.entry.varies))
    axes = []
    for key in sorted(keys, key=lambda key: key in REPEATED):
        settings = {row.entry.number: row.setting(key) for row in rows if row.entry.state == "done"}
        if len({repr(value) for value in settings.values()}) < 2:
            continue
        numbers = {n: float(v) for n, v in settings.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
        if len(numbers) == sum(value is not None for value in settings.values()) and len(set(numbers.values())) > 1:
            low, high = min(numbers.values()), max(numbers.values())
            whole = all(value.is_integer() for value in numbers.values())
            axes.append({"key": key, "log": low > 0 and high / low > LOG_FROM, "whole": whole, "at": numbers})
        else:
            labels = sorted({show(value) for value in settings.values()})
            axes.append({"key": key, "labels": labels, "at": {n: labels.index(show(v)) for n, v in settings.items()}})
    return axes


def _thinned(values: Sequence[T], most: int) -> list[T]:
    """Return at most `most` of the values at equal distances, with the first and the last."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def _rounded(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points of a curve with six digits of each value."""
    return [(x, float(f"{value:.6g}")) for x, value in curve]
