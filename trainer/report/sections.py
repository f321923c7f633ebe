"""Sections of a run's page about its test: metrics by class, calibration, and later evaluations."""

from __future__ import annotations

import base64
from html import escape

from trainer.data.confidence import absent, interval_text
from trainer.data.metrics import shown
from trainer.errors import Problem, UserError, first_few
from trainer.files import read_limited
from trainer.records.contents import exists
from trainer.records.record import Record
from trainer.records.samples import FIRST_BATCH
from trainer.records.summary import HEADER, rows, totals
from trainer.report import page, svg

PNG = b"\x89PNG\r\n\x1a\n"
LARGEST_PICTURE = 20_000_000  # bytes
MOST_LAYERS = 500  # of the table

LABEL_COLUMNS = ("positives", "accuracy", "precision", "recall", "f1", "auroc", "average_precision")
TARGET_COLUMNS = ("mae", "rmse", "r2")


def classes(record: Record) -> str:
    """Return a table with the metrics of each class."""
    if record.test is None or not record.test.per_class:
        return ""
    columns = ["total", "correct", "accuracy", "precision", "recall", "f1"]
    rows = [
        [entry.name, *(getattr(entry, column) for column in columns), interval_text(entry.correct, entry.total)]
        for entry in record.test.per_class
    ]
    missing = absent(record.test)
    note = (
        f"<p>Without samples of {escape(first_few(missing))}: the test says nothing about them.</p>" if missing else ""
    )
    return note + page.table("Classes", ["class", *columns, "accuracy, 95 % interval"], rows, named=True)


def labels(record: Record) -> str:
    """Return a table with the metrics of each label."""
    if record.test is None or not record.test.per_label:
        return ""
    rows = [[entry.name, *(getattr(entry, column) for column in LABEL_COLUMNS)] for entry in record.test.per_label]
    header = [column.replace("_", " ") for column in LABEL_COLUMNS]
    note = f"<p>A label is predicted from a probability of {record.test.threshold or 0.5:g}.</p>"
    return note + page.table("Labels", ["label", *header], rows, named=True)


def targets(record: Record) -> str:
    """Return a table with the metrics of each target of a regression on several."""
    if record.test is None or not record.test.per_target:
        return ""
    rows = [[entry.name, *(getattr(entry, column) for column in TARGET_COLUMNS)] for entry in record.test.per_target]
    note = "<p>Each target is in its own unit; the metrics of the whole test are means over the targets.</p>"
    return note + page.table("Targets", ["target", *TARGET_COLUMNS], rows, named=True)


def calibration(record: Record) -> str:
    """Return accuracy by confidence, as a chart and a table."""
    reliability = record.details.calibration
    if reliability is None:
        return ""
    filled = [
        (b.low, b.high, b.count, b.confidence, b.accuracy)
        for b in reliability.bins
        if b.count > 0 and b.confidence is not None and b.accuracy is not None
    ]
    total = sum(count for _, _, count, _, _ in filled)
    if not total:
        return ""
    bars = [(low, high, accuracy, count / total) for low, high, count, _, accuracy in filled]
    mean = sum(count * (confidence - accuracy) for _, _, count, confidence, accuracy in filled) / total
    verdict = "overconfident" if mean > 0 else "underconfident"
    header = ["confidence from", "to", "samples", "mean confidence", "accuracy"]
    table = page.table("Calibration", header, [list(row) for row in filled])
    return (
        f"<p>Expected calibration error {reliability.ece:.4f}: on average the model is {verdict} by {abs(mean):.2%}. "
        "The bars of a calibrated model end on the dashed line.</p>"
        f'<div class="plots">{svg.reliability_chart("reliability", bars)}</div>'
        f"<details><summary>The numbers</summary>{table}</details>"
    )


def evaluations(record: Record) -> str:
    """Return a table with a row for each `trainer evaluate`."""
    if not record.evaluations:
        return ""
    present = {name for each in record.evaluations.values() for name, x in each.test.metrics.items() if x is not None}
    metrics = shown("headline", "line", "table", among=present)
    header = ["file", "data", "part", "samples", *(metric.label for metric in metrics)]
    header += ["calibration error", "temperature", "calibrated error"]
    rows = []
    for name, each in record.evaluations.items():
        before = each.calibration and each.calibration.uncalibrated
        after = each.calibration and each.calibration.calibrated
        rows.append([
            name, " ".join(each.overrides or ["its own"]), each.split, each.samples,
            *(each.test.metrics.get(metric.name) for metric in metrics),
            before and before.ece, after and after.temperature, after and after.ece,
        ])  # fmt: skip
    return page.table("Later evaluations", header, rows, named=True)


def first_batch(record: Record) -> str:
    """Return samples.png, the first training batch; empty if there is no such picture."""
    path = record.path / FIRST_BATCH
    if not exists(path):
        return ""
    data = read_limited(path, LARGEST_PICTURE)
    if not data.startswith(PNG):
        raise UserError(Problem(str(path), "not a PNG picture"))
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return (
        "<p>The first training batch as the model sees it: augmented, with its targets.</p>"
        f'<img class="wide" alt="the first training batch" src="{source}">'
    )


def model(record: Record) -> str:
    """Return the size of the model, and a table with its layers."""
    if record.summary is None:
        return ""
    batch_size = record.stored.get("batch_size")
    figures = totals(record.summary, batch_size if isinstance(batch_size, int) else 1)
    size = page.table("Size", ["what", "value"], [list(pair) for pair in figures], named=True)
    cells = rows(record.summary)
    layers = page.table("Layers", HEADER, cells[:MOST_LAYERS], named=True)
    more = f", the first {MOST_LAYERS} shown" if len(cells) > MOST_LAYERS else ""
    return f"{size}<details><summary>The layers ({len(cells):,}{more})</summary>{layers}</details>"
