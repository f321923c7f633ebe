"""gradients.png of `debug=gradients`: gradient norms by epoch, and each layer in the last epoch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from trainer.records.metrics import x_axis
from trainer.report.plots import save

DEAD, SATURATED, GREY = "#c0392b", "#e0a030", "#9aa5b1"
BRIGHTEST = 0.85  # position in viridis, whose end is too bright on white
MARKED_LAYERS = 12  # up to which lines of few epochs have markers

Row = dict[str, Any]


def picture(path: Path, rows: list[Row]) -> None:
    """Draw the gradient norm of each layer by epoch, and by depth in the first and the last epoch.

    If activations were watched, a third chart shows the share of dead units and of saturated outputs in the last epoch.
    Layers are in the order in which they are called.

    Raises:
        RunFailed: the file could not be written.
    """
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    shades = matplotlib.colormaps["viridis"]
    colours = [shades(BRIGHTEST * i / max(len(layers) - 1, 1)) for i in range(len(layers))]
    times = x_axis((row["epoch"], row["step"]) for row in rows)
    has_activations = any(row[share] is not None for row in rows for share in ("dead_share", "saturated_share"))
    figure = Figure(figsize=(13, max(4.2, 1.4 + 0.19 * len(layers))), dpi=110, layout="constrained")
    widths = [2.2, 1.5, 1.0] if has_activations else [2.2, 1.5]
    over_time, by_depth, *last = figure.subplots(1, len(widths), width_ratios=widths)
    _over_time(over_time, rows, layers, times, colours)
    _by_depth(by_depth, rows, layers, times, colours)
    if has_activations:
        _shares(last[0], rows, layers)
        last[0].sharey(by_depth)
        last[0].tick_params(labelleft=False)
    handles = [handle for axes in (by_depth, *last) for handle in axes.get_legend_handles_labels()[0]]
    if handles:
        figure.legend(handles=handles, frameon=False, fontsize=8, loc="outside lower right", ncols=len(handles))
    save(figure, path)


def _over_time(axes: Axes, rows: list[Row], layers: list[str], times: str, colours: list[Any]) -> None:
    for i, layer in enumerate(layers):
        points = [(row[times], row["gradient_norm"]) for row in rows if row["layer"] == layer]
        points = [(x, y) for x, y in points if _drawable(y)]
        if points:
            marker = "o" if (len(points) < 30 and len(layers) <= MARKED_LAYERS) or len(points) == 1 else None
            axes.plot(*zip(*points, strict=True), color=colours[i], marker=marker, markersize=3.5, linewidth=1.4)
    _log(axes, rows, "y")
    axes.set(xlabel=times, ylabel="L2 norm, mean over the steps", title="gradient norm")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _by_depth(axes: Axes, rows: list[Row], layers: list[str], times: str, colours: list[Any]) -> None:
    last = max(row[times] for row in rows)
    first = min(row[times] for row in rows)
    for moment, filled in ((first, False), (last, True)):
        if first == last and not filled:
            continue
        norms = {row["layer"]: row["gradient_norm"] for row in rows if row[times] == moment}
        shown = [(norm, i) for i, layer in enumerate(layers) if _drawable(norm := norms.get(layer))]
        if shown:
            x, y = zip(*shown, strict=True)
            axes.plot(x, y, color=GREY, linewidth=0.9, linestyle="-" if filled else ":", zorder=1)
            faces = [colours[i] for i in y] if filled else "white"
            edges = "none" if filled else GREY
            axes.scatter(x, y, s=34, c=faces, edgecolors=edges, zorder=2, label=f"{times} {moment}")
    size = 9 if len(layers) <= 40 else 7
    axes.set_yticks(range(len(layers)), layers, fontsize=size, parse_math=False)
    axes.set_ylim(len(layers) - 0.5, -0.5)
    for i, tick in enumerate(axes.get_yticklabels()):
        tick.set_color(colours[i])
    _log(axes, rows, "x")
    axes.set(title="by layer, first to last", xlabel="gradient norm")


def _shares(axes: Axes, rows: list[Row], layers: list[str]) -> None:
    step = max(row["step"] for row in rows)
    last = {row["layer"]: row for row in rows if row["step"] == step}
    for share, colour, label in (
        ("dead_share", DEAD, "dead units"),
        ("saturated_share", SATURATED, "saturated outputs"),
    ):
        bars = [(i, last[layer][share]) for i, layer in enumerate(layers) if layer in last]
        bars = [(i, value) for i, value in bars if value is not None]
        if bars:
            y, widths = zip(*bars, strict=True)
            axes.barh(y, 1, color="#eef1f4", height=0.7)
            axes.barh(y, widths, color=colour, height=0.7, label=label)
            for i, value in bars:
                axes.text(0.98, i, f"{value:.0%}", ha="right", va="center", fontsize=8 if len(layers) <= 40 else 6)
    axes.set(xlim=(0, 1), title="activations")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.spines[["top", "right"]].set_visible(False)


def _log(axes: Axes, rows: list[Row], axis: str) -> None:
    """Set a logarithmic scale over whole decades, so that ordinary scatter does not look large."""
    norms = [row["gradient_norm"] for row in rows if _drawable(row["gradient_norm"])]
    if norms:
        low, high = math.floor(math.log10(min(norms))), math.ceil(math.log10(max(norms)))
        axes.set(**{f"{axis}scale": "log", f"{axis}lim": (10.0**low, 10.0 ** max(high, low + 1))})
        ruler = axes.xaxis if axis == "x" else axes.yaxis
        ruler.set_major_locator(LogLocator(numticks=7))
        ruler.set_major_formatter(FuncFormatter(_decade))
        ruler.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _decade(norm: float, _: int) -> str:
    return f"{norm:g}" if 1e-3 <= norm <= 1e3 else f"1e{round(math.log10(norm))}"


def _drawable(norm: float | None) -> bool:
    return norm is not None and norm > 0 and math.isfinite(norm)
