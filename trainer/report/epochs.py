"""The table of epochs: the cells of a row of metrics.csv, as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from trainer.data.metrics import text
from trainer.records.metrics import MetricsRow


def cells(row: MetricsRow) -> list[tuple[str, str, int]]:
    """Return the name, the text and the width of each cell of a row."""
    return [
        ("epoch", str(row.epoch), 6),
        ("step", str(row.step), 8),
        ("lr", f"{row.lr:.3g}", 9),
        *((name, "" if value is None else text(name, value), 14) for name, value in row.metrics.items()),
        ("seconds", f"{row.seconds:.2f}", 8),
    ]


def line(cells: Iterable[tuple[str, str, int]], part: Literal[0, 1]) -> str:
    """Return the names of the cells (part 0) or their texts (part 1) as a line."""
    return " ".join(f"{cell[part]:>{cell[2]}}" for cell in cells)
