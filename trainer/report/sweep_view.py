"""A sweep on the terminal: a line for each running job, a progress bar, and the leaderboard at the end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from trainer.data.metrics import HEADLINES
from trainer.errors import UserError, printable, show
from trainer.files import open_regular
from trainer.records.leaderboard import Row, group_table, grouped, table
from trainer.records.ledger import Entry
from trainer.report.tables import print_table

MAX_ROWS = 20
REDRAW_SECONDS = 0.5


class RunningWork(Protocol):
    """A job, or a stack of jobs, that runs: the number of the first job, and the folder with its metrics.csv."""

    @property
    def number(self) -> int: ...
    @property
    def folder(self) -> Path: ...


class SweepView:
    """Terminal output of a sweep, in plain lines if stdout is no terminal.

    It draws only when it is called, because a thread would not survive a fork. An earlier session may have finished
    `done` of the `total` jobs.
    """

    def __init__(self, total: int, folder: Path, done: int = 0) -> None:
        self.total, self.folder, self.done = total, folder, done
        self.out = Console(highlight=False, soft_wrap=True)
        self.live: Live | None = None
        self.names: dict[int, str] = {}
        self.drawn = 0.0
        self.bar = Progress(
            TextColumn("jobs"), BarColumn(None), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(compact=True), auto_refresh=False,
        )  # fmt: skip
        self.task = self.bar.add_task("jobs", total=total, completed=done)

    def begin(self, how: str) -> None:
        """Print the sweep's line and start the progress bar."""
        self.say(f"sweep      {self.folder}: {self.total} jobs, {how}")
        if self.out.is_terminal:
            self.live = Live(self.bar, console=self.out, auto_refresh=False, transient=True)
            self.live.start()

    def say(self, text: str) -> None:
        """Print a line above the progress bar."""
        (self.live.console if self.live else self.out).print(printable(text), markup=False)

    def started(self, number: int, entry: Entry, together: int = 1) -> None:
        """Register the start of a job, or of `together` jobs that are trained in one pass."""
        self.names[number] = _words(entry) if together == 1 else f"{together} jobs in one pass"

    def ended(self, number: int, entry: Entry, value: float | None) -> None:
        """Print how a job ended or paused, with its monitored value."""
        if entry.state not in ("paused", "interrupted"):
            self.done += 1
        figure = "" if value is None else f"  {entry.stored['monitor']} {value:.4f}"
        self.say(f"job {number:>4}  {entry.state:<11}{figure}  {_words(entry)}")
        self.bar.update(self.task, completed=self.done)

    def update(self, running: Sequence[RunningWork]) -> None:
        """Draw the running jobs, at most twice a second."""
        now = time.monotonic()
        if self.live is None or now - self.drawn < REDRAW_SECONDS:
            return
        self.drawn = now
        lines = [Text(f"  {work.number:>4}  {_progress(work.folder)}  {self.names[work.number]}") for work in running]
        self.live.update(Group(*lines, self.bar), refresh=True)

    def end(self, rows: Sequence[Row], closing: Sequence[str]) -> None:
        """Print the best rows of the leaderboard, its settings over their seeds and folds, and the closing lines."""
        if self.live is not None:
            self.live.stop()
        groups = grouped(rows)
        header, cells = table(rows, groups)
        shown = [i for i, name in enumerate(header) if name not in ("job", "reason", "trained")]
        print()
        print_table([header[i] for i in shown], [[row[i] for i in shown] for row in cells[:MAX_ROWS]])
        if len(cells) > MAX_ROWS:
            print(f"... and {len(cells) - MAX_ROWS} more in leaderboard.csv")
        if groups:
            print()
            print_table(*group_table(groups[:MAX_ROWS], rows[0].monitor))
        print()
        for line in closing:
            print(printable(line))


def _words(entry: Entry) -> str:
    return printable(" ".join(f"{key}={_short(value)}" for key, value in entry.varies.items()))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else show(value)


def _progress(folder: Path) -> str:
    """Return the last row of a running job's metrics.csv in brief.

    The file of a stack has other columns than that of a run, and both may have thousands of rows.
    """
    try:
        with TextIOWrapper(open_regular(folder / "metrics.csv"), "utf-8") as file:
            header = file.readline().rstrip("\n").split(",")
            last = deque(file, maxlen=1)
    except UserError:  # it is not there yet
        return "starting"
    if not last or not last[0].endswith("\n"):
        return "epoch 1"
    row = dict(zip(header, last[0].rstrip("\n").split(","), strict=False))
    column = next((f"valid_{name}" for name in (*HEADLINES, "loss") if row.get(f"valid_{name}")), None)
    reached = f"epoch {row['epoch']}" if int(row["epoch"]) else f"step {row['step']}"
    return reached + (f", {column} {float(row[column]):.4f}" if column else "")
