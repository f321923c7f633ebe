"""The table of epochs and the progress bar of a run in a Jupyter notebook, drawn in place."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from html import escape
from typing import Any

REDRAW_SECONDS = 0.2
MOST_ROWS = 200  # in the notebook; metrics.csv has all
STYLE = "font-family: monospace; font-variant-numeric: tabular-nums;"


class NotebookTable:
    """A table that grows in the output of its cell, with a bar below it while training goes on."""

    def __init__(self) -> None:
        self.header: Sequence[str] = ()
        self.rows: deque[tuple[Sequence[str], bool]] = deque(maxlen=MOST_ROWS)
        self.bar = ""
        self.drawn = 0.0
        self.handle: Any = None

    def row(self, header: Sequence[str], cells: Sequence[str], *, best: bool) -> None:
        """Add a row; the `best` ones are marked."""
        self.header = header
        self.rows.append((cells, best))
        self._draw_at_times()

    def progress(self, done: int, total: int, text: str) -> None:
        """Show that `done` of `total` batches are finished, with a text beside the bar."""
        self.bar = f'<progress value="{done}" max="{total}" style="width: 50%"></progress> {escape(text)}'
        self._draw_at_times()

    def end(self) -> None:
        """Remove the bar."""
        if self.bar or self.rows:
            self.bar = ""
            self._draw()

    def _draw_at_times(self) -> None:
        if time.perf_counter() - self.drawn >= REDRAW_SECONDS:
            self._draw()

    def _draw(self) -> None:
        from IPython.display import HTML, display

        self.drawn = time.perf_counter()
        page = HTML(self.html())
        if self.handle is None:
            self.handle = display(page, display_id=True)
        else:
            self.handle.update(page)

    def html(self) -> str:
        """Return the table and the bar."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self.header)
        rows = "".join(_row(cells, best) for cells, best in self.rows)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
        return f'<div style="{STYLE}">{table}{self.bar}</div>'


def _row(cells: Sequence[str], best: bool) -> str:
    style = ' style="font-weight: bold; color: #187a32"' if best else ""
    return f"<tr{style}>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
