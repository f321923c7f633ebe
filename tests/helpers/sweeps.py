"""Files that a sweep leaves."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from trainer.training import checkpoint

TINY = ("data=iris", "model=mlp", "threads=1", "plots=false")


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file without timings; none if it does not exist."""
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
    """Return the complete lines of sweep.jsonl without their checksums; none if it does not exist."""
    if not (folder / "sweep.jsonl").exists():
        return []
    whole = (folder / "sweep.jsonl").read_bytes().rpartition(b"\n")[0]
    lines = [json.loads(line) for line in whole.splitlines()]
    return [{name: value for name, value in line.items() if name != "crc"} for line in lines]


def states(folder: Path) -> dict[int, str]:
    """Return the last state of each job."""
    return {line["job"]: line["state"] for line in ledger(folder) if "job" in line}


def places(folder: Path) -> list[Path]:
    """Return the folders of the jobs, by number."""
    return [folder / line["name"] for line in ledger(folder) if "stored" in line]


def results(place: Path) -> dict[str, Any]:
    return json.loads((place / "results.json").read_text())


def weights(place: Path) -> dict[str, Any]:
    """Return the best weights of a run or a job."""
    return checkpoint.load(place / "checkpoints" / "best.pt")["model"]


def all_weights(folder: Path) -> list[dict[str, Any]]:
    return [weights(place) for place in places(folder)]


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return modification time and content of each file below a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
