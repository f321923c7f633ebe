"""What `trainer evaluate` says on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console as RichConsole
from rich.table import Table

from trainer.errors import printable
from trainer.report.console import Console

CLASSES = ("loss", "nll", "accuracy", "balanced_accuracy", "f1", "auroc")
SHORT = {"balanced_accuracy": "balanced"}
WIDE = 400  # off a terminal no line is broken
NUMBERS = ("loss", "mse", "mae", "rmse", "r2")


def tell(content: dict[str, Any], epoch: int) -> None:
    """One run: the test's figures as at the end of training, and how far the probabilities can be believed."""
    console = Console()
    whose = "" if content["own_data"] else ", of other data than the run was trained on"
    console.say(f"{content['part']:<10} {content['samples']:,} samples{whose}")
    console.test(content["test"], epoch)
    found = content["calibration"]
    if found is None:
        return
    console.say(f"calibration expected error {_calibration(found['uncalibrated'])}")
    if found["calibrated"] is not None:
        told = f"{_calibration(found['calibrated'])} at temperature {found['calibrated']['temperature']:.4f}"
        console.say(f"           then {told}")


def _calibration(figures: dict[str, Any]) -> str:
    return f"{figures['ece']:.2%}, negative log-likelihood {figures['nll']:.4f}"


def table(rows: list[tuple[str, dict[str, Any]]]) -> None:
    """Several runs of one task: (name, content of evaluation-<n>.json) of each; an ensemble has no loss."""
    figures = CLASSES if "accuracy" in rows[0][1]["test"] else NUMBERS
    shown = Table(box=None, pad_edge=False)
    for name in ("run", "part", "samples", *figures, *(["ece"] if figures is CLASSES else [])):
        left = name in ("run", "part")
        shown.add_column(SHORT.get(name, name), justify="left" if left else "right", overflow="fold")
    for name, content in rows:
        test, found = content["test"] | {key: content.get(key) for key in ("nll", "mse")}, content["calibration"]
        cells = ["" if test.get(figure) is None else f"{test[figure]:.4f}" for figure in figures]
        if found is not None:
            cells.append(f"{(found['calibrated'] or found['uncalibrated'])['ece']:.2%}")
        shown.add_row(printable(name), content["part"], f"{content['samples']:,}", *cells)
    console = RichConsole(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(shown)
