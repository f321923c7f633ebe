"""Output of a run on the terminal and in train.log: header, progress, a row per validation, the test, the next command.

The log, and stdout if it is no terminal, get plain lines. Results go to stdout, diagnostics to stderr.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import IO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from trainer.data.confidence import absent, beside
from trainer.data.metrics import SplitReport, shown, text
from trainer.errors import first_few, printable
from trainer.records.contents import names
from trainer.records.metrics import MetricsRow
from trainer.report import epochs
from trainer.report.notebook import NotebookTable
from trainer.report.output import open_log
from trainer.report.tables import in_notebook, test_table, text_console
from trainer.training.state import RunState

REDRAW_SECONDS = 0.2
LASTING_SECONDS = 1.0  # before a line names a long step, if stderr is no terminal
ROW_SECONDS = 0.1  # minimum time between two rows on a terminal; metrics.csv has all


class Console:
    """Output of one run.

    Args:
        log: path of train.log, appended to.
        live: draw a progress bar below the rows; default: if stdout is a terminal.
        quiet: write only the log.
    """

    def __init__(self, log: Path | None = None, live: bool | None = None, *, quiet: bool = False) -> None:
        self.out = text_console(quiet=quiet)
        self.quiet = quiet
        self.live = not quiet and (self.out.is_terminal if live is None else live)
        self.log: IO[str] | None = open_log(log) if log else None
        self.plain = text_console(file=self.log, width=110, color_system=None) if self.log else None
        self.notebook = NotebookTable() if not quiet and in_notebook() else None
        self.progress: Progress | None = None
        self.drawn = self.row_shown = 0.0
        self.samples, self.since = 0, time.perf_counter()
        self.has_header = False

    def close(self) -> None:
        self.end_progress()
        if self.log:
            self.log.close()
            self.log = self.plain = None

    def say(self, text: str = "", style: str | None = None) -> None:
        """Print a line of results; control characters in it are replaced."""
        text = printable(text)
        self.out.print(text, style=style, markup=False)
        self._log(text)

    def note(self, text: str) -> None:
        """Print a line of diagnostics to stderr; control characters in it are replaced."""
        text = printable(text)
        if self.progress:
            self.progress.console.print(text, style="yellow", markup=False)
        elif not self.quiet:
            text_console(stderr=True).print(text, style="yellow", markup=False)
        self._log(text)

    def _log(self, text: str) -> None:
        if self.log:
            self.log.write(text + "\n")

    def header(self, lines: Iterable[tuple[str, str]]) -> None:
        """Print the header: a name and a text in each line."""
        for name, value in ((name, printable(value)) for name, value in lines):
            self.out.print(Text.assemble((f"{name:<10}", "bold"), f" {value}"))
            self._log(f"{name:<10} {value}")
        self.say()

    def begin(self, state: RunState, done: int, total: int) -> None:
        """Start the progress bar of training, with `done` of `total` batches finished."""
        self.samples, self.since = 0, time.perf_counter()
        self.batches, self.total = done, total
        if self.live:
            self.progress = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(None),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(compact=True),
                console=self.out,
                auto_refresh=False,
                transient=True,
            )
            self.task = self.progress.add_task("", total=total, completed=done, epoch=state.epoch + 1, rate="")
            self.progress.start()

    def advance(self, state: RunState, batches: int, samples: int) -> None:
        """Move the progress bar after a step; it is drawn at most five times a second."""
        if self.progress is None and self.notebook is None:
            return
        self.samples, self.batches = self.samples + samples, self.batches + batches
        now = time.perf_counter()
        if now - self.drawn < REDRAW_SECONDS:
            return
        self.drawn = now
        rate = f"{self.samples / (now - self.since):,.0f} samples/s"
        if self.progress is not None:
            self.progress.update(self.task, completed=self.batches, epoch=state.epoch + 1, rate=rate)
            self.progress.refresh()
        if self.notebook is not None:
            self.notebook.progress(self.batches, self.total, f"epoch {state.epoch + 1}, {rate}")

    def row(self, row: MetricsRow, best: bool) -> None:
        """Print a row of metrics.csv, the first one below the names of the columns."""
        cells = epochs.cells(row)
        line = epochs.line(cells, 1) + (" *" if best else "")
        if not self.has_header:
            self.has_header = True
            self._print_row(epochs.line(cells, 0))
        if self.notebook is not None:
            names, texts, _ = zip(*cells, strict=True)
            self.notebook.row(names, texts, best=best)
        now = time.perf_counter()
        if not self.live or now - self.row_shown >= ROW_SECONDS:
            self.row_shown = now
            self._print_row(line, "bold green" if best else None)
        else:
            self._log(line)

    def _print_row(self, line: str, style: str | None = None) -> None:
        if self.live:
            self.out.print(line, style=style, markup=False)
        elif not self.quiet and self.notebook is None:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        self._log(line)

    def end_progress(self) -> None:
        """Remove the progress bar."""
        if self.progress:
            self.progress.stop()
            self.progress = None
        if self.notebook is not None:
            self.notebook.end()

    def end(self, reason: str) -> None:
        """Print why training ended."""
        self.end_progress()
        self.say()
        self.say(f"stopped    {reason}")

    def test(self, report: SplitReport, best: str | None) -> None:
        """Print the metrics of a test in a line, and its table, if it has one; `best` is the moment of the weights."""
        values = {name: value for name, value in report.metrics.items() if value is not None}
        metrics = [
            f"{m.label} {text(m.name, values[m.name])}{beside(report, m.name)}"
            for m in shown("headline", "line", among=values)
        ]
        self.say(f"test       {', '.join(metrics)} (weights of {best})", style="bold")
        if missing := absent(report):
            self.say(f"           without samples of {first_few(missing)}: the test says nothing about them")
        if table := test_table(report):
            for console in filter(None, (self.out, self.plain)):
                console.print()
                console.print(table)
                console.print()

    def next(self, path: Path, has_weights: bool, command: str | None) -> None:
        """Print where the results are, and a command to continue with."""
        pictures = ", ".join(name for name in names(path) if name.endswith(".png") or name == "report.html")
        self.say(f"folder     {path}{f': {pictures}' if pictures else ''}")
        if has_weights:
            self.say(f"weights    {path / 'checkpoints' / 'best.pt'}")
        if command:
            self.say(f"next       {command}")


class StatusBar:
    """Progress of long steps beside training: a bar on a terminal, else a line after LASTING_SECONDS. Goes to stderr.

    Args:
        check: called at each update; may raise to cancel.
        quiet: show nothing.
    """

    def __init__(self, check: Callable[[], None], *, quiet: bool = False) -> None:
        self.check, self.what = check, ""
        self.out = text_console(stderr=not in_notebook(), quiet=quiet)
        self.since = self.drawn = time.perf_counter()
        self.begun = False
        self.bar: Progress | None = None

    def __enter__(self) -> StatusBar:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` is done; a total of 0 shows no count."""
        self.check()
        now = time.perf_counter()
        if what != self.what:
            self._end()
            self.what, self.since = what, now
        if now - self.drawn < REDRAW_SECONDS:
            return
        self.drawn = now
        if self.out.is_terminal:
            self._draw(done, total)
        elif not self.begun and now - self.since > LASTING_SECONDS:
            self.begun = True
            self.out.print(f"{what}{f' ({total:,})' if total else ''} ... ", end="", soft_wrap=True)

    def _draw(self, done: int, total: int) -> None:
        if self.bar is None:
            columns = (TextColumn(self.what), BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
            self.bar = Progress(*columns, console=self.out, auto_refresh=False, transient=True)
            self.task = self.bar.add_task("", total=total or None)
            self.bar.start()
        self.bar.update(self.task, completed=done)
        self.bar.refresh()

    def _end(self) -> None:
        if self.bar:
            self.bar.stop()
        if self.begun:
            self.out.print(f"{time.perf_counter() - self.since:.0f} s")
        self.bar, self.begun = None, False
