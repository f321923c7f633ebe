"""Pages of many runs at once; what is wrong with one does not keep the others from theirs."""

from __future__ import annotations

from collections.abc import Iterable

from trainer.errors import UserError
from trainer.record import locate, runs_below
from trainer.report.messages import print_problems
from trainer.report.run_page import write_page


def write_pages(places: Iterable[str]) -> int:
    """Writes report.html for the runs at or below each place and prints its path; returns the exit code.

    Raises:
        UserError: a place that holds no run.
    """
    runs = []
    for place in places:
        path = locate(place)
        if not path.is_dir():
            raise UserError(f"{place}: there is no such folder.")
        found = list(runs_below(path))
        if not found:
            raise UserError(f"{place}: there is no run in it (a folder with a config.yaml).")
        runs += found
    code = 0
    for run in dict.fromkeys(runs):
        try:
            print(write_page(run))
        except UserError as error:
            print_problems(error.problems)
            code = 1
    return code
