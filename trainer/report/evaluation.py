"""Terminal output of `trainer evaluate`."""

from __future__ import annotations

from rich.console import Console as RichConsole
from rich.table import Table

from trainer.data.metrics import shown, text
from trainer.errors import printable
from trainer.records.details import EvaluationRecord, Reliability
from trainer.report.console import Console

WIDE = 400  # off a terminal no line is broken


def tell(content: EvaluationRecord, epoch: int) -> None:
    """Print the evaluation of one run: the metrics as at the end of training, and the calibration errors."""
    console = Console()
    whose = "" if content.own_data else ", of other data than the run was trained on"
    console.say(f"{content.part:<10} {content.samples:,} samples{whose}")
    console.test(content.test, epoch)
    calibration = content.calibration
    if calibration is None:
        return
    console.say(f"calibration expected error {_errors(calibration.uncalibrated)}")
    if calibration.calibrated is not None:
        temperature = calibration.calibrated.temperature
        console.say(f"           then {_errors(calibration.calibrated)} at temperature {temperature:.4f}")


def _errors(reliability: Reliability) -> str:
    return f"{reliability.ece:.2%}, negative log-likelihood {reliability.nll:.4f}"


def table(rows: list[tuple[str, EvaluationRecord]]) -> None:
    """Print a row for each of several runs of one task; an ensemble has no loss."""
    values = [{**content.test.metrics, "nll": content.nll, "mse": content.mse} for _, content in rows]
    known = {name for metrics in values for name, value in metrics.items() if value is not None}
    metrics = shown("headline", "line", "table", among=known)
    has_calibration = rows[0][1].calibration is not None
    table = Table(box=None, pad_edge=False)
    for name in ("run", "part", "samples", *(metric.label for metric in metrics), *["ece"] * has_calibration):
        table.add_column(name, justify="left" if name in ("run", "part") else "right", overflow="fold")
    for (name, content), each in zip(rows, values, strict=True):
        numbers = [each.get(metric.name) for metric in metrics]
        cells = ["" if x is None else text(metric.name, x) for metric, x in zip(metrics, numbers, strict=True)]
        if content.calibration is not None:
            cells.append(f"{(content.calibration.calibrated or content.calibration.uncalibrated).ece:.2%}")
        table.add_row(printable(name), content.part, f"{content.samples:,}", *cells)
    console = RichConsole(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)
