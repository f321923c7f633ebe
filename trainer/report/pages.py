"""`trainer report`: pages and pictures of many runs. A run whose files cannot be used does not stop the others."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from trainer.errors import Problem, RunFailed, UserError, print_problems, printable
from trainer.records.contents import exists
from trainer.records.find import run_folder
from trainer.records.record import Record, read, runs_below
from trainer.report.run_page import write_page


def write_pages(folders: Iterable[str]) -> int:
    """Write report.html and missing pictures for the runs at or below each folder; return the exit code.

    Raises:
        UserError: a folder holds no run.
    """
    runs = []
    for folder in folders:
        path = run_folder(folder)
        if not os.path.isdir(path):
            raise UserError(Problem(str(folder), "there is no such folder"))
        below = list(runs_below(path))
        if not below:
            raise UserError(Problem(str(folder), "there is no run in it (a folder with a config.yaml)"))
        runs += below
    code = 0
    for run in dict.fromkeys(runs):
        try:
            print(printable(str(write_pages_of(run))))
        except (UserError, RunFailed) as error:
            print_problems(error.problems if isinstance(error, UserError) else [str(error)], "trainer report")
            code = 1
    return code


def write_pages_of(run: Path) -> Path:
    """Write the report.html and the missing pictures of a run; return the path of the page.

    Raises:
        UserError: a file of the run cannot be read.
        RunFailed: a file cannot be written.
    """
    page = write_page(run)
    _draw_missing(read(run))
    return page


def _draw_missing(record: Record) -> None:
    """Draw curves.png and confusion_matrix.png if the run did not draw them, like the jobs of a sweep."""
    test, curves, matrix = record.test, record.path / "curves.png", record.path / "confusion_matrix.png"
    draws_curves = bool(record.rows) and not exists(curves)
    draws_matrix = test is not None and bool(test.confusion_matrix) and not exists(matrix)
    if not (draws_curves or draws_matrix):
        return
    from trainer.report import plots

    if draws_curves:
        plots.curves(curves, record.rows, record.across, record.best)
    if test is not None and draws_matrix:
        plots.confusion_matrix(matrix, test.confusion_matrix, [entry.name for entry in test.per_class])
