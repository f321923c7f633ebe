"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

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
