"""Rows of metrics.csv without a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.records import metrics
from trainer.records.metrics import MetricsRow
from trainer.records.table import Table


def metrics_row(epoch: int, **values: float | None) -> MetricsRow:
    return MetricsRow(epoch, 10 * epoch, 0.1, values, 1.5, 64.0)


def write_metrics(folder: Path, rows: Sequence[MetricsRow]) -> None:
    folder.mkdir(exist_ok=True)
    Table(folder / metrics.FILE, metrics.columns(list(rows[0].metrics)), [row.to_dict() for row in rows]).close()
