"""Output of `trainer doctor`: facts, findings, and the plot of the learning-rate range test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console

from trainer.errors import printable
from trainer.report.findings import SEVERITIES, Report

COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}
HIDDEN = ("rates", "losses")  # facts that are only in the plot and the JSON


def show(report: Report) -> None:
    """Print facts, then findings; the worst come last, next to the prompt."""
    console = Console(highlight=False, soft_wrap=True)
    for topic, facts in report.facts.items():
        shown = [f"{_name(name)} {_fact(name, value)}" for name, value in facts.items() if name not in HIDDEN]
        console.print(f"[bold]{topic:<14}[/]", end="")
        console.print(printable(", ".join(shown)), markup=False)
    console.print()
    for name, why in report.skipped.items():
        console.print(printable(f"not checked   {name}: {why}"), markup=False, style="dim")
    for finding in reversed(report.ordered()):
        advice = f"\n{'':<14}-> {printable(finding.advice)}" if finding.advice else ""
        console.print(f"{finding.severity:<14}", style=COLOURS[finding.severity], end="")
        end = "" if finding.message.endswith("?") else "."
        console.print(f"{printable(f'{finding.check}: {finding.message}')}{end}{advice}", markup=False)
    counts = [sum(f.severity == severity for f in report.findings) for severity in SEVERITIES]
    summary = [f"{count} {severity}{'s'[: count != 1]}" for count, severity in zip(counts, SEVERITIES, strict=True)]
    console.print(f"\n{len(set(report.checks))} checks: {', '.join(summary)}")


def _name(name: str) -> str:
    return name.removesuffix("_bytes").replace("_", " ")


def _fact(name: str, value: Any) -> str:
    if name.endswith("_bytes"):
        return f"{value / 1e9:.1f} GB" if value > 1e9 else f"{value / 1e6:.1f} MB"
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {count:,}" for key, count in value.items()) + ")"
    if isinstance(value, list):
        return "x".join(map(str, value)) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def draw_rates(path: Path, rates: Sequence[float], losses: Sequence[float], suggested: float | None) -> None:
    """Plot the smoothed loss by learning rate to a PNG file, with the suggested learning rate marked."""
    figure = Figure(figsize=(6.5, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color="#1f6fd6", linewidth=1.8)
    if suggested is not None:
        axes.axvline(suggested, color="#d1495b", linestyle=":", label=f"falls fastest at {suggested:.2g}")
        axes.legend(frameon=False)
    axes.set_xscale("log")
    axes.set(xlabel="learning rate", ylabel="training loss, smoothed", title="learning-rate range test")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    figure.savefig(path)
