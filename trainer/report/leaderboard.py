"""The leaderboard of a sweep on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trainer.errors import printable


def print_table(header: list[str], rows: list[list[Any]], *, named: bool = False) -> None:
    """Prints rows as they come, best first; None is left blank, figures have four digits after the point.

    Columns with a point in their name are keys of the configuration, shown as short as they can be. Off a terminal
    nothing is cut off.

    Args:
        named: the first column says what a row is, and is shown whole.
    """
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(header):
        first = named and number == 0
        table.add_column(escape(printable(name)), justify="left" if first else "right", no_wrap=first, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value, short="." in name) for name, value in zip(header, row, strict=True)))
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 10_000
    console.print(table)


def _cell(value: Any, *, short: bool) -> str:
    if value is None:
        return ""
    if short and isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:.4f}" if isinstance(value, float) else escape(printable(str(value)))
