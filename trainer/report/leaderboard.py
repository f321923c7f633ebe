"""The leaderboard of a sweep on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_table(header: list[str], rows: list[list[Any]]) -> None:
    """Prints rows as they come, best first; None is left blank, figures have four digits after the point.

    Columns with a point in their name are keys of the configuration, shown as short as they can be.
    """
    table = Table(box=None, pad_edge=False)
    for name in header:
        table.add_column(escape(name), justify="right")
    for row in rows:
        table.add_row(*(_cell(value, short="." in name) for name, value in zip(header, row, strict=True)))
    Console(highlight=False, soft_wrap=True).print(table)


def _cell(value: Any, *, short: bool) -> str:
    if value is None:
        return ""
    if short and isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:.4f}" if isinstance(value, float) else escape(str(value))
