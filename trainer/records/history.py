"""`trainer list runs`: runs and sweeps in outputs/, the newest first. Does not import torch."""

from __future__ import annotations

import os
from pathlib import Path

from trainer.errors import Problem, UserError
from trainer.files import resolve
from trainer.records.contents import exists
from trainer.records.folder import LEDGER
from trainer.records.leaderboard import ranked, read_rows, states
from trainer.records.ledger import read_ledger
from trainer.records.record import status
from trainer.records.results import read_results

HEADER = ["run", "status", "epochs", "monitor", "best", "test"]
Line = list[str | int | float | None]


def runs(outputs: Path, most: int | None = None) -> tuple[list[Line], list[Problem]]:
    """Return up to `most` lines, a run or sweep each, with the columns of HEADER, and problems of unreadable ones.

    Raises:
        UserError: there is no folder `outputs`.
    """
    if not outputs.is_dir():
        raise UserError(Problem(str(outputs), "there is no such folder, so there are no runs yet"))
    places = [p for p in outputs.glob("[0-9]*/*") if os.path.lexists(p / "config.yaml") or os.path.lexists(p / LEDGER)]
    lines: list[Line] = []
    problems: list[Problem] = []
    for place in sorted(places, key=lambda p: (p.parent.name, p.name), reverse=True)[:most]:
        folder = resolve(place)
        try:
            lines.append([str(place), *(_sweep(folder) if exists(folder / LEDGER) else _run(folder))])
        except UserError as error:
            problems += error.problems
    return lines, problems


def _run(place: Path) -> Line:
    """Return the line of a run without its name."""
    results = read_results(place)
    if results is None:
        return [status(place, None), None, None, None, None]
    trained = f"step {results.steps}" if results.ended_inside else results.epochs
    return [results.status, trained, results.monitor, results.value(results.monitor), results.headline]


def _sweep(place: Path) -> Line:
    """Return the line of a sweep without its name: the number of jobs in each state, and the best job."""
    entries = read_ledger(place / LEDGER).entries
    best = next((row for row in ranked(read_rows(place, entries, {})) if row.value is not None), None)
    figures = [best.monitor, best.value, best.test] if best else [None] * 3
    return [states(entries) or "no jobs", None, *figures]
