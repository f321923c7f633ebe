"""Read what a sweep left behind."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from trainer.training import checkpoint

TINY = ("data=iris", "model=mlp", "threads=1", "plots=false")


def rows(path: Path) -> list[dict[str, str]]:
    """Of a CSV file, timings left out; none where it is not there yet."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [
            {name: cell for name, cell in row.items() if name not in ("seconds", "samples_per_second")}
            for row in csv.DictReader(file)
        ]


def table(folder: Path) -> list[dict[str, str]]:
    return rows(folder / "leaderboard.csv")


def ledger(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of sweep.jsonl; none where it is not there yet."""
    if not (folder / "sweep.jsonl").exists():
        return []
    whole = (folder / "sweep.jsonl").read_bytes().rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def states(folder: Path) -> dict[int, str]:
    """The last state of each job."""
    return {line["job"]: line["state"] for line in ledger(folder) if "job" in line}


def places(folder: Path) -> list[Path]:
    """The folders of the jobs, by number."""
    return [folder / line["name"] for line in ledger(folder) if "stored" in line]


def results(place: Path) -> dict[str, Any]:
    return json.loads((place / "results.json").read_text())


def weights(place: Path) -> dict[str, Any]:
    """The best weights of a run or a job."""
    return checkpoint.load(place / "checkpoints" / "best.pt")["model"]


def all_weights(folder: Path) -> list[dict[str, Any]]:
    return [weights(place) for place in places(folder)]


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Modification time and bytes of each file below."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
