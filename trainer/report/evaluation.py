"""Terminal output of `trainer evaluate`."""

from __future__ import annotations

from trainer.data.metrics import shown, text
from trainer.records.details import EvaluationRecord, Reliability
from trainer.records.metrics import moment
from trainer.report.console import Console
from trainer.report.tables import print_table


def show(content: EvaluationRecord) -> None:
    """Print the evaluation of one run: the metrics as at the end of training, and the calibration errors."""
    console = Console()
    origin = "" if content.own_data else ", of other data than the run was trained on"
    console.say(f"{content.split:<10} {content.samples:,} samples{origin}")
    console.test(content.test, moment(content.epoch or 0, content.step or 0, None))
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
    present = {name for metrics in values for name, value in metrics.items() if value is not None}
    metrics = shown("headline", "line", "table", among=present)
    has_calibration = rows[0][1].calibration is not None
    cells = []
    for (name, content), by_name in zip(rows, values, strict=True):
        numbers = [(metric.name, by_name.get(metric.name)) for metric in metrics]
        row = [name, content.split, f"{content.samples:,}", *(x if x is None else text(m, x) for m, x in numbers)]
        if content.calibration is not None:
            row.append(f"{(content.calibration.calibrated or content.calibration.uncalibrated).ece:.2%}")
        cells.append(row)
    header = ["run", "part", "samples", *(metric.label for metric in metrics), *["ece"] * has_calibration]
    print_table(header, cells, named=True)
