"""Charts as inline SVG: lines, scattered points, a reliability diagram. Colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 290
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 30, 40
LOG_FROM = 20  # ratio of the largest to the smallest value from which an axis is logarithmic
MAX_POINTS = 400  # of a line
MARKED_POINTS = 40  # up to which a line has a dot at each

STYLE = """
svg.chart { width: 100%; max-width: 36rem; display: block; } svg.chart text { font-size: 13px; }
 svg .axis { stroke: var(--soft); } svg .grid { stroke: var(--line); }
svg polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .a { stroke: var(--soft); } svg .b { stroke: var(--mark); } svg circle.a, svg rect.a { fill: var(--soft); }
svg circle.b { fill: var(--mark); } svg circle { stroke: none; fill-opacity: .75; }
svg .best { stroke: #d1495b; stroke-dasharray: 3 4; stroke-width: 1.5; } svg text.best { fill: #d1495b; stroke: none; }
svg .diagonal { stroke: var(--soft); stroke-dasharray: 5 4; } svg rect.bar { fill: var(--mark); fill-opacity: .75; }
svg rect.share { fill: var(--soft); fill-opacity: .35; } svg text.a { stroke: none; }
svg text.b { fill: var(--mark); stroke: none; font-weight: 600; }
"""

MARGIN = 6  # pixels between the frame and the outermost points
Points = Sequence[tuple[float, float]]


@dataclass
class Axis:
    """Position of values on an axis of `length` pixels from `start`, which may be negative.

    Attributes:
        low, high: range of the values.
        start, length: in pixels.
        log: whether the scale is logarithmic.
        whole: whether ticks are whole numbers.
    """

    low: float
    high: float
    start: float
    length: float
    log: bool = False
    whole: bool = False

    @classmethod
    def over(
        cls, values: Sequence[float], start: float, length: float, *, log: bool = False, whole: bool = False
    ) -> Axis:
        """Return an axis over all values, logarithmic if `log` allows it and they are far apart.

        Markers at the outermost values stay within the frame.
        """
        inner = math.copysign(MARGIN, length)
        low, high = min(values), max(values)
        if high - low <= max(1e-12 * max(abs(low), abs(high)), 1e-300):
            room = abs(low) * 0.5 if abs(low) > 1e-290 else 0.1
            low, high = low - room, high + room
        return cls(low, high, start + inner, length - 2 * inner, log and low > 0 and high / low > LOG_FROM, whole)

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * self.length

    def ticks(self) -> list[float]:
        """Return round values within the range."""
        if self.log:
            low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            steps = (1,) if high - low > 3 else (1, 2, 5)
            every = max(1, (high - low) // 6)
            values = [step * 10.0**power for power in range(low, high + 1, every) for step in steps]
        else:
            rough = (self.high - self.low) / 5
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * 0.999)
            if self.whole:
                step = max(1.0, step)
            first = math.ceil(self.low / step - 1e-9)
            values = [n * step for n in range(first, first + 12)]
        inside = (self.high - self.low) * 1e-9
        return [v for v in values if self.low - inside <= v <= self.high + inside]


def line_chart(title: str, across: str, lines: Mapping[str, Points], best: float | None = None) -> str:
    """Return a chart of lines, the first of two in grey; lines without points are left out.

    Args:
        title: title of the chart.
        across: name of the x axis.
        lines: points by name, two lines at most.
        best: marked by a vertical line.
    """
    shown = {name: thinned(points) for name, points in lines.items() if points}
    if not shown:
        return ""
    xs = [x for points in shown.values() for x, _ in points]
    ys = [y for points in shown.values() for _, y in points]
    x_axis = Axis.over(xs, LEFT, WIDTH - LEFT - RIGHT, whole=True)
    y_axis = Axis.over(ys, HEIGHT - BOTTOM, -(HEIGHT - TOP - BOTTOM), log="loss" in title)
    parts = [_frame(x_axis, y_axis, across, "")]
    if best is not None and x_axis.low <= best <= x_axis.high:
        at = x_axis(best)
        parts.append(f'<line class="best" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}"/>')
    legend = []
    for kind, (name, points) in zip("ab" if len(shown) > 1 else "b", shown.items(), strict=False):
        positions = [(x_axis(x), y_axis(y)) for x, y in points]
        parts.append(f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in positions)}"/>')
        if len(points) <= MARKED_POINTS:
            parts += [
                f'<circle class="{kind}" cx="{px:.1f}" cy="{py:.1f}" r="3">'
                f"<title>{escape(name)}, {escape(across)} {x:g}: {y:.4g}</title></circle>"
                for (px, py), (x, y) in zip(positions, points, strict=True)
            ]
        legend.append((kind, name))
    if best is not None:
        legend.append(("best", f"best, {across} {best:g}"))
    summary = "; ".join(f"{name} from {points[0][1]:.4g} to {points[-1][1]:.4g}" for name, points in shown.items())
    return _chart(title, f"{title} by {across}: {summary}", "".join(parts) + _legend(legend))


def scatter_chart(title: str, across: str, down: str, points: Points, diagonal: bool = False) -> str:
    """Return a chart of dots, with the diagonal on request.

    Args:
        title: title of the chart.
        across: name of the x axis.
        down: name of the y axis.
        points: x and y of each dot.
        diagonal: draw the line on which both values are equal.
    """
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if diagonal:
        xs = ys = xs + ys
    x_axis = Axis.over(xs, LEFT, WIDTH - LEFT - RIGHT)
    y_axis = Axis.over(ys, HEIGHT - BOTTOM, -(HEIGHT - TOP - BOTTOM))
    low, high = (x_axis.low, x_axis.high) if diagonal else (0.0, 0.0)
    parts = [_frame(x_axis, y_axis, across, down)]
    if diagonal or y_axis.low <= 0 <= y_axis.high:
        left, right = (x_axis(low), x_axis(high)) if diagonal else (LEFT, WIDTH - RIGHT)
        ends = f'x1="{left:.1f}" y1="{y_axis(low):.1f}" x2="{right:.1f}" y2="{y_axis(high):.1f}"'
        parts.append(f'<line class="diagonal" {ends}/>')
    parts += [f'<circle class="b" cx="{x_axis(x):.1f}" cy="{y_axis(y):.1f}" r="3"/>' for x, y in points]
    return _chart(title, f"{down} against {across} for {len(points)} samples", "".join(parts))


def reliability_chart(title: str, bins: Sequence[tuple[float, float, float, float]]) -> str:
    """Return a chart of accuracy by confidence.

    Args:
        title: title of the chart.
        bins: (lowest, highest confidence, accuracy, share of the samples) of the bins that have samples.
    """
    x_axis, y_axis = Axis(0, 1, LEFT, WIDTH - LEFT - RIGHT), Axis(0, 1, HEIGHT - BOTTOM, -(HEIGHT - TOP - BOTTOM))
    floor = HEIGHT - BOTTOM
    parts = [_frame(x_axis, y_axis, "confidence", "")]
    for low, high, accuracy, share in bins:
        left, wide = x_axis(low), x_axis(high) - x_axis(low)
        for kind, value, inset in (("share", share, 0.0), ("bar", accuracy, wide * 0.2)):
            top = y_axis(value)
            parts.append(
                f'<rect class="{kind}" x="{left + inset:.1f}" y="{top:.1f}" width="{wide - 2 * inset:.1f}" '
                f'height="{floor - top:.1f}"><title>confidence {low:.2f} to {high:.2f}: accuracy {accuracy:.1%}, '
                f"{share:.1%} of the samples</title></rect>"
            )
    parts.append(f'<line class="diagonal" x1="{x_axis(0)}" y1="{y_axis(0)}" x2="{x_axis(1)}" y2="{y_axis(1)}"/>')
    parts.append(_legend([("b", "accuracy"), ("a", "share of the samples")]))
    summary = "; ".join(f"{low:.2f} to {high:.2f}: {accuracy:.1%}" for low, high, accuracy, _ in bins)
    return _chart(title, f"accuracy by confidence: {summary}", "".join(parts))


def thinned(points: Points) -> list[tuple[float, float]]:
    """Return at most MAX_POINTS of the points, with the extremes of each stretch."""
    if len(points) <= MAX_POINTS:
        return list(points)
    size = math.ceil(2 * len(points) / MAX_POINTS)
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        kept += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    return kept


def _frame(x_axis: Axis, y_axis: Axis, across: str, down: str) -> str:
    floor, parts = HEIGHT - BOTTOM, []
    for value in y_axis.ticks():
        y = y_axis(value)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    parts += [
        f'<text x="{x_axis(value):.1f}" y="{floor + 16}" text-anchor="middle">{value:.4g}</text>'
        for value in x_axis.ticks()
    ]
    parts.append(f'<line class="axis" x1="{LEFT}" y1="{floor}" x2="{WIDTH - RIGHT}" y2="{floor}"/>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{floor + 32}" text-anchor="end">{escape(across)}</text>')
    if down:
        parts.append(f'<text x="{LEFT}" y="{TOP - 10}">{escape(down)}</text>')
    return "".join(parts)


def _legend(entries: list[tuple[str, str]]) -> str:
    at, parts = float(WIDTH - RIGHT), []
    for kind, name in reversed(entries):
        parts.append(f'<text class="{kind}" x="{at:g}" y="{TOP - 10}" text-anchor="end">{escape(name)}</text>')
        at -= 7.5 * len(name) + 16
    return "".join(parts)


def _chart(title: str, summary: str, inside: str) -> str:
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(summary)}">{inside}</svg>'
        "</figure>"
    )
