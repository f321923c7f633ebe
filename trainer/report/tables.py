"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trainer.data.metrics import SplitReport, text
from trainer.errors import printable

WIDTH = 10_000  # off a terminal, where no line is broken


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    return Console().is_jupyter


def text_console(**options: Any) -> Console:
    """Return a console that writes text; in a notebook plain text, where rich would make an element of each line."""
    if in_notebook():  # Jupyter sets FORCE_COLOR, by which rich takes it for a terminal
        options = {"force_terminal": False, "color_system": None, **options}
    return Console(highlight=False, soft_wrap=True, force_jupyter=False, **options)


def text_table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, named: bool = False) -> Table:
    """Return a table. None is left blank, and floats have four decimals; text may come from an untrusted file.

    Floats in a column with a dot in its name, which is a key of the configuration, are printed as short as possible.

    If `named`, the first column names the rows: it is aligned to the left and not broken.
    """
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(header):
        first = named and number == 0
        table.add_column(escape(printable(name)), justify="left" if first else "right", no_wrap=first, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value, short="." in name) for name, value in zip(header, row, strict=True)))
    return table


def test_table(report: SplitReport) -> Table | None:
    """Return a table of the classes, labels or targets of a test; None if it has none of them."""
    rows: list[list[Any]] = []
    for entry in report.per_class:
        if entry.total:
            shares = [f"{entry.accuracy:.2%}", *(f"{x:.3f}" for x in (entry.precision, entry.recall, entry.f1))]
            rows.append([entry.name, f"{entry.correct}/{entry.total}", *shares])
        else:
            rows.append([entry.name, "no samples", *[None] * 4])
    if rows:
        return text_table(["class", "correct", "accuracy", "precision", "recall", "f1"], rows, named=True)
    for label in report.per_label:
        scores = (label.precision, label.recall, label.f1, label.auroc, label.average_precision)
        shown = ["" if score is None else f"{score:.3f}" for score in scores]
        positives = f"{label.positives}/{label.total}" if label.positives else "no samples"
        rows.append([label.name, positives, f"{label.accuracy:.2%}", *shown])
    if rows:
        header = ["label", "positives", "accuracy", "precision", "recall", "f1", "auroc", "average precision"]
        return text_table(header, rows, named=True)
    for target in report.per_target:
        values = {"mae": target.mae, "rmse": target.rmse, "r2": target.r2}
        rows.append([target.name, *(None if value is None else text(name, value) for name, value in values.items())])
    return text_table(["target", "mae", "rmse", "r2"], rows, named=True) if rows else None


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, named: bool = False) -> None:
    """Print a table; see `text_table`."""
    console = text_console()
    if not console.is_terminal:
        console.width = WIDTH
    console.print(text_table(header, rows, named=named))


def _cell(value: Any, *, short: bool) -> str:
    if value is None:
        return ""
    if short and isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:.4f}" if isinstance(value, float) else escape(printable(str(value)))
