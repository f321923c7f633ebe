"""Comparison of the outcomes of two sweeps over the same jobs, value by value; and the stacks of a sweep."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch

from helpers.sweeps import ledger, places, results, rows, table
from trainer.training import checkpoint

DOUBLE = ("threads=1", "plots=false", "precision=float64", "sweep.workers=1")
STACK = "sweep.stack=true"
# Which value is noticed first depends on whether a save was due at that step.
NOTICED = re.compile("the (weights are|validation loss is|training loss is) not finite")
KEPT = ("status", "reason", "error", "test", "valid", "train", "best_epoch", "epochs", "steps")


def close(a: Any, b: Any, tolerance: float = 1e-9) -> bool:
    """Return whether two nested structures are equal; numbers, also in strings, are compared with a tolerance."""
    if isinstance(a, torch.Tensor):
        same = isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape
        return same and torch.allclose(a.double(), b.double(), rtol=tolerance, atol=tolerance)
    if isinstance(a, dict):
        return list(a) == list(b) and all(close(a[key], b[key], tolerance) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(close(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, str) and isinstance(b, str):
        a, b = (NOTICED.sub("not finite", text) for text in (a, b))
    try:
        return a == b or math.isclose(float(a), float(b), rel_tol=tolerance, abs_tol=tolerance)
    except (TypeError, ValueError):
        return False


def owned(content: Any) -> bool:
    """Return whether each tensor has its own storage, not that of a stack."""
    if isinstance(content, dict):
        return all(map(owned, content.values()))
    if isinstance(content, (list, tuple)):
        return all(map(owned, content))
    return not isinstance(content, torch.Tensor) or content.untyped_storage().nbytes() == content.nbytes


def last(place: Path) -> dict[str, Any]:
    return checkpoint.load(place / "checkpoints" / "last.pt")


def end_of(place: Path) -> dict[str, Any]:
    """Return the outcome of a run without timings."""
    diverged = results(place)["status"] == "diverged"  # its last checkpoint is older than its end
    state = {} if diverged else last(place)["run"]
    return {
        "metrics": rows(place / "metrics.csv"),
        "results": {name: results(place)[name] for name in KEPT},
        "weights": state.get("model"),
        "average": state.get("average"),
        "best": (state.get("best") or {}).get("value"),
        "moments": state.get("optimizer", {}).get("state"),
    }


def ends(folder: Path) -> list[dict[str, Any]]:
    return [end_of(place) for place in places(folder)]


def same_sweeps(a: Path, b: Path, tolerance: float = 1e-9) -> bool:
    """Return whether two sweeps have the same jobs with the same outcomes, and the same leaderboards."""
    groups = [rows(folder / "leaderboard_groups.csv") for folder in (a, b)]
    return (
        [place.name for place in places(a)] == [place.name for place in places(b)]
        and close(table(a), table(b), tolerance)
        and close(*groups, tolerance)
        and close(ends(a), ends(b), tolerance)
    )


def lines(out: str) -> list[str]:
    """Return the lines of output about stacks."""
    return [line for line in out.splitlines() if line.startswith(("stack ", "hint "))]


def stacks(folder: Path) -> list[list[int]]:
    """Return the numbers of the jobs of each stack in the ledger."""
    return [jobs for line in ledger(folder) for jobs in line.get("stacks", ()) if len(jobs) > 1]
