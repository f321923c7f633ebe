"""leaderboard.html: a sweep as one self-contained page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from trainer.files import write_atomically
from trainer.leaderboard import Row, group_table, grouped, ranked, table
from trainer.report import page

WIDTH, HEIGHT, EDGE = 340, 220, 40
LOG_FROM = 20  # times the smallest value is the largest: then a logarithmic axis


def write_page(folder: Path, rows: Sequence[Row], words: Sequence[str]) -> None:
    """Writes the page into the sweep's folder."""
    states: dict[str, int] = {}
    for row in rows:
        states[row.entry.state] = states.get(row.entry.state, 0) + 1
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    parts = [f"<h1>Sweep {escape(folder.name)}</h1>", f"<p>{len(rows)} jobs: {escape(counts)}</p>"]
    if words:
        parts.append(f"<p><code>train -m {escape(' '.join(words))}</code></p>")
    best = ranked(rows)[0] if rows else None
    if best is not None and best.value is not None:
        tested = "" if best.test is None else f"; on the test part {best.test:.4g}"
        parts.append(f"<p>Best: {escape(best.entry.name)}, {escape(best.monitor)} {best.value:.4g}{tested}</p>")
    groups = grouped(rows)
    if groups:
        parts.append("<h2>Settings, over their seeds and folds</h2>")
        parts.append(page.table("Settings", *group_table(groups, rows[0].monitor)))
    parts += ["<h2>Jobs, best first</h2>", page.table("Jobs", *table(rows, groups))]
    if plots := _plots(rows):
        parts.append(f'<h2>What each key does</h2>\n<div class="plots">{plots}</div>')
    write_atomically(folder / "leaderboard.html", page.page(f"Sweep {folder.name}", "\n".join(parts)).encode())


def _plots(rows: Sequence[Row]) -> str:
    """The monitored value against every key that varies in numbers."""
    keys = list(dict.fromkeys(key for row in rows for key in row.entry.varies))
    plots = []
    for key in keys:
        points = [(row.entry.varies.get(key), row.value) for row in rows if row.entry.state == "done"]
        numbers = [
            (x, y) for x, y in points if isinstance(x, (int, float)) and not isinstance(x, bool) and y is not None
        ]
        if len({x for x, _ in numbers}) > 1:
            plots.append(_scatter(key, rows[0].monitor, [(float(x), float(y)) for x, y in numbers]))
    return "\n".join(plots)


def _scatter(key: str, monitor: str, points: list[tuple[float, float]]) -> str:
    across, down = _Axis([x for x, _ in points]), _Axis([y for _, y in points])
    dots = "".join(
        f'<circle cx="{EDGE + across(x) * (WIDTH - 2 * EDGE):.1f}" '
        f'cy="{HEIGHT - EDGE - down(y) * (HEIGHT - 2 * EDGE):.1f}" r="4"><title>{x:.4g}: {y:.4g}</title></circle>'
        for x, y in points
    )
    (low_x, high_x), (low_y, high_y) = [(min(v), max(v)) for v in zip(*points, strict=True)]
    bottom, right = HEIGHT - EDGE, WIDTH - EDGE
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" '
        f'aria-label="{escape(monitor)} against {escape(key)}">'
        f'<line x1="{EDGE}" y1="{bottom}" x2="{right}" y2="{bottom}"/>'
        f'<line x1="{EDGE}" y1="{EDGE}" x2="{EDGE}" y2="{bottom}"/>{dots}'
        f'<text x="{EDGE}" y="{bottom + 16}">{low_x:.3g}</text>'
        f'<text x="{right}" y="{bottom + 16}" text-anchor="end">{high_x:.3g}</text>'
        f'<text x="{EDGE - 4}" y="{bottom}" text-anchor="end">{low_y:.3g}</text>'
        f'<text x="{EDGE - 4}" y="{EDGE + 4}" text-anchor="end">{high_y:.3g}</text>'
        f"</svg><figcaption>{escape(monitor)} against {escape(key)}</figcaption></figure>"
    )


class _Axis:
    """A value's place between the smallest (0) and the largest (1), on a logarithmic scale where they are far apart."""

    def __init__(self, values: Sequence[float]) -> None:
        low, high = min(values), max(values)
        self.scale = math.log if low > 0 and high / low > LOG_FROM else float
        self.low, self.high = self.scale(low), self.scale(high)

    def __call__(self, value: float) -> float:
        return (self.scale(value) - self.low) / (self.high - self.low) if self.high > self.low else 0.5
