"""What a run or a sweep leaves, timings aside: the same whether it was interrupted and resumed or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.sweeps import places, rows, table
from trainer.training import checkpoint

TIMINGS = ("seconds", "samples_per_second")
RESULTS = ("status", "test", "valid", "train", "best_epoch", "epochs", "steps", "error", "data_fingerprint")
STACK_LOGS = ("train.log", "metrics.csv")  # the jobs that a kill left unfinished are a stack of their own


def run_outcome(folder: Path) -> dict[str, Any]:
    """Return what two finished runs of the same configuration have in common."""
    last = checkpoint.load(folder / "checkpoints" / "last.pt")["run"]
    best = checkpoint.load(folder / "checkpoints" / "best.pt")
    results = json.loads((folder / "results.json").read_text())
    last["history"] = [_untimed(row) for row in last["history"]]
    last["best"]["row"] = _untimed(last["best"]["row"])
    del last["seconds"]
    return {
        "last": last,
        "best": best["model"],
        "metrics": rows(folder / "metrics.csv"),
        "results": {name: results[name] for name in RESULTS},
        "files": _files(folder),
    }


def sweep_outcome(folder: Path, exact: bool = True) -> dict[str, Any]:
    """Return what two finished sweeps over the same jobs have in common; without numbers unless `exact`."""
    jobs = places(folder)
    return {
        "files": _files(folder),
        "jobs": [place.name for place in jobs],
        **({"table": table(folder), "groups": rows(folder / "leaderboard_groups.csv")} if exact else {}),
        "runs": [run_outcome(place) for place in jobs] if exact else [],
    }


def _files(folder: Path) -> list[str]:
    """Return the names of the files, those of temporary files too: none may be left."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not _varies(path))


def _varies(path: Path) -> bool:
    """Return whether a file depends on the moment of a fault: on how many saves and stacks there were."""
    return path.name == "previous.pt" or (path.parent.name.startswith("stack-") and path.name in STACK_LOGS)


def _untimed(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in TIMINGS}
