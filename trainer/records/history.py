"""`trainer list runs`: runs and sweeps in outputs/, the newest first. Does not import torch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from trainer.errors import Problem, UserError
from trainer.records.folder import LEDGER
from trainer.records.leaderboard import ranked, read_rows
from trainer.records.ledger import read_ledger
from trainer.records.record import status
from trainer.records.results import read_results

HEADER = ["run", "status", "epochs", "monitor", "best", "test"]
Line = list[str | int | float | None]


def runs(outputs: Path, most: int | None = None) -> tuple[list[Line], list[Problem]]:
    """Return a line for each run and sweep, with the columns of HEADER, and a problem for each that cannot be read.

    Args:
        outputs: folder of the runs and sweeps.
        most: maximum number of lines; None returns all.

    Raises:
        UserError: there is no such folder.
    """
    if not outputs.is_dir():
        raise UserError(Problem(str(outputs), "there is no such folder, so there are no runs yet"))
    places = [p for p in outputs.glob("[0-9]*/*") if (p / "config.yaml").exists() or (p / LEDGER).exists()]
    lines: list[Line] = []
    problems: list[Problem] = []
    for place in sorted(places, key=lambda p: (p.parent.name, p.name), reverse=True)[:most]:
        try:
            lines.append(_sweep(place) if (place / LEDGER).exists() else _run(place))
        except UserError as error:
            problems += error.problems
    return lines, problems


def _run(place: Path) -> Line:
    results = read_results(place)
    if results is None:
        return [str(place), status(place, None), None, None, None, None]
    value = results.value(results.monitor)
    return [str(place), results.status, results.epochs, results.monitor, value, results.headline]


def _sweep(place: Path) -> Line:
    """Return the line of a sweep: the number of jobs in each state, and the best job."""
    entries = read_ledger(place / LEDGER).entries
    counts = Counter(entry.state for entry in entries)
    rows = read_rows(place, entries, {})
    best = next((row for row in ranked(rows) if row.value is not None), None)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    return [
        str(place),
        states or "no jobs",
        None,
        best.monitor if best else None,
        best.value if best else None,
        best.test if best else None,
    ]
