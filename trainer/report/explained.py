"""The section of a run's page about what decided its predictions, if `trainer explain` was run."""

from __future__ import annotations

from html import escape

from trainer.data.metrics import text
from trainer.records.explained import Importance
from trainer.records.record import Record
from trainer.report import page
from trainer.report.mistakes import pictures

METHODS = {"grad_cam": "Grad-CAM", "integrated_gradients": "integrated gradients"}


def section(record: Record) -> str:
    """Return the explained mistakes and the importance of columns; an empty string without either."""
    parts, content = [], record.explained
    if content.columns is not None:
        parts.append(_columns(content.columns))
    if content.mistakes is not None and (shown := pictures(content.mistakes.mistakes, "mistakes wide")):
        method = escape(METHODS.get(content.mistakes.method, content.mistakes.method))
        note = f"The most confident mistakes ({escape(content.mistakes.split)}) by {method}, red: for the wrong class"
        against = "" if content.mistakes.method == "grad_cam" else ", blue: against it"
        parts.append(f"<p>{note}{against}.</p>\n{shown}")
    return "\n".join(parts)


def _columns(importance: Importance) -> str:
    """Return a table of the columns, most important first."""
    metric = importance.metric.replace("_", " ")
    origin = "" if importance.own_data else ", of other data"
    note = (
        f"{metric} on {importance.samples:,} samples ({importance.split}{origin}): "
        f"{text(importance.metric, importance.score)}. Each column is permuted {importance.repeats} times."
    )
    rows = [[column.name, column.mean, column.std] for column in importance.columns]
    table = page.table("Columns", ["column", f"loss of {metric}", "std"], rows, named=True)
    return f"<p>{escape(note)}</p>\n{table}"
