"""What a run or a sweep leaves, timings aside, and comparison with what an uninterrupted one leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from faults.settings import Setting
from helpers.stacks import same_sweeps
from helpers.sweeps import places, rows, table
from helpers.trees import same_tree
from trainer.training import checkpoint

TIMINGS = ("seconds", "samples_per_second")
RESULTS = ("status", "test", "valid", "train", "best_epoch", "epochs", "steps", "error")
STACK_LOGS = ("train.log", "metrics.csv")  # the jobs that a kill left unfinished are a stack of their own


class Different(AssertionError):
    """A run that does not end like an uninterrupted one."""


class Lost(AssertionError):
    """A checkpoint that was saved and is gone, or a run that cannot be resumed."""


def outcome(folder: Path, setting: Setting) -> dict[str, Any]:
    """Return what must be equal of a finished run or sweep."""
    if not setting.is_sweep:
        return _run(folder)
    jobs = places(folder)
    return {
        "files": _files(folder),
        "jobs": [place.name for place in jobs],
        **({"table": table(folder), "groups": rows(folder / "leaderboard_groups.csv")} if setting.exact else {}),
        "runs": [_run(place) for place in jobs] if setting.exact else [],
    }


def _run(folder: Path) -> dict[str, Any]:
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


def _files(folder: Path) -> list[str]:
    """Return the names of the files, those of temporary files too: none may be left."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not _varies(path))


def _varies(path: Path) -> bool:
    """Return whether a file depends on the moment of a fault: on how many saves and stacks there were."""
    return path.name == "previous.pt" or (path.parent.name.startswith("stack-") and path.name in STACK_LOGS)


def _untimed(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in TIMINGS}


def compare(folder: Path, setting: Setting, whole: Path) -> None:
    """Compare a finished run or sweep with an uninterrupted one.

    Raises:
        Different: they are not the same.
    """
    ours, theirs = outcome(folder, setting), outcome(whole, setting)
    if not same_tree(ours, theirs):
        raise Different(f"{setting.name}: {', '.join(_differences(ours, theirs))} in {folder}")
    if not setting.exact and not same_sweeps(folder, whole, 1e-10):
        raise Different(f"{setting.name}: the jobs' ends in {folder}")


def _differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Return the places at which two nested structures differ, at most five."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        found = [place for key in a for place in _differences(a[key], b[key], f"{where}.{key}")]
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        found = [place for number, (x, y) in pairs for place in _differences(x, y, f"{where}[{number}]")]
    elif same_tree(a, b):
        return []
    else:
        found = [f"{where.lstrip('.')} ({_short(a)} instead of {_short(b)})"]
    return found[:5]


def _short(value: Any) -> str:
    text = repr(value).replace("\n", " ")
    return text if len(text) < 80 else f"{text[:80]}..."
