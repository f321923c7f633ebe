"""Parts of a run's page: its test by class, how far its chances can be believed, and what later evaluations found."""

from __future__ import annotations

from typing import Any

from trainer.records.record import Record
from trainer.report import page, svg

FIGURES = ("accuracy", "top5_accuracy", "balanced_accuracy", "auroc", "f1", "loss", "mae", "rmse", "r2")


def classes(record: Record) -> str:
    """How well each class is known."""
    rows = (record.results.get("test") or {}).get("per_class")
    if not rows:
        return ""
    columns = ["class", "total", "correct", "accuracy", "precision", "recall", "f1"]
    return page.table("Classes", columns, [[row.get(c) for c in columns] for row in rows], named=True)


def calibration(record: Record) -> str:
    """How often the model is right at each confidence."""
    found = record.details.get("calibration") or {}
    bins = [b for b in found.get("bins") or [] if b["count"] > 0 and None not in (b["accuracy"], b["confidence"])]
    if not bins or found["ece"] is None:
        return ""
    total = sum(b["count"] for b in bins)
    chart = svg.reliability_chart(
        "reliability", [(b["low"], b["high"], b["accuracy"], b["count"] / total) for b in bins]
    )
    mean = sum(b["count"] * (b["confidence"] - b["accuracy"]) for b in bins) / total
    verdict = "surer than it is right" if mean > 0 else "less sure than it is right"
    header = ["chance from", "to", "samples", "mean chance", "accuracy"]
    rows = [[b["low"], b["high"], b["count"], b["confidence"], b["accuracy"]] for b in bins]
    return (
        f"<p>Expected calibration error {found['ece']:.4f}: on the whole the model is {verdict} by {abs(mean):.2%}. "
        "Bars on the dashed line would be a model whose chances can be believed.</p>"
        f'<div class="plots">{chart}</div>'
        f"<details><summary>The numbers</summary>{page.table('Calibration', header, rows)}</details>"
    )


def evaluations(record: Record) -> str:
    """A row for each `trainer evaluate`."""
    if not record.evaluations:
        return ""
    tests = [found["test"] or {} for found in record.evaluations.values()]
    figures = [name for name in FIGURES if any(test.get(name) is not None for test in tests)]
    names = [name.replace("_", " ") for name in figures]
    header = ["file", "data", "part", "samples", *names, "calibration error", "temperature", "calibrated error"]
    rows = []
    for (name, found), test in zip(record.evaluations.items(), tests, strict=True):
        as_it_is = (found["calibration"] or {}).get("uncalibrated") or {}
        mended = (found["calibration"] or {}).get("calibrated") or {}
        rows.append([
            name, " ".join(found["overrides"] or ["its own"]), found["part"], found["samples"],
            *(_real(test.get(figure)) for figure in figures),
            as_it_is.get("ece"), mended.get("temperature"), mended.get("ece"),
        ])  # fmt: skip
    return page.table("Later evaluations", header, rows, named=True)


def _real(value: Any) -> float | None:
    return None if value is None else float(value)
