"""What a run folder says of a finished, running or broken-off run, read from files that anyone may have made.

Nothing here is resolved, constructed or run: a record is plain values of the expected kinds, and whatever is not
becomes one sentence. Imports no torch.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.config.stored import MAX_CONFIG_BYTES, read_choices, read_config
from trainer.errors import UserError, printable, show
from trainer.files import read_limited
from trainer.records import folder
from trainer.records.folder import LEDGER

LARGEST_BYTES = 100_000_000  # of results.json and metrics.csv
LARGEST_DETAILS = 20_000_000
LARGEST_NUMBER = 1e300  # sums of two must be finite too
DEEPEST = 4  # folders between the one that is named and a run in it
NUMBER = (int, float, type(None))
TEXT = (str, type(None))
WHOLE = (int, type(None))
MOST_EVALUATIONS = 1000
# What stands in the files, as far as it is shown: a kind, [kind] for a list, {"*": kind} for any names.
TEST: dict[str, Any] = {
    "per_class": [{"class": str, "*": NUMBER}],
    "confusion_matrix": [[int]],
    "*": NUMBER,
}
SHAPE: dict[str, Any] = {
    "status": str,
    "reason": TEXT,
    "task": TEXT,
    "epochs": WHOLE,
    "steps": WHOLE,
    "best_epoch": WHOLE,
    "monitor": TEXT,
    "train": {"*": NUMBER},
    "valid": {"*": NUMBER},
    "test": TEST,
    "parameters": {"*": int},
    "seconds": {"*": NUMBER},
    "samples_per_second": NUMBER,
    "device": TEXT,
    "threads": WHOLE,
    "peak_memory_bytes": WHOLE,
    "versions": {"*": str},
    "seed": WHOLE,
    "command": [str],
    "overrides": [str],
    "git_commit": TEXT,
    "data_fingerprint": TEXT,
    "skipped_images": [{"*": str}],
    "error": TEXT,
}
DETAILS: dict[str, Any] = {
    "calibration": {
        "ece": NUMBER,
        "nll": NUMBER,
        "bins": [{"low": float, "high": float, "count": int, "confidence": NUMBER, "accuracy": NUMBER}],
    },
    "mistakes": [{"image": str, "predicted": str, "true": str, "chance": float}],
    "predictions": [[float]],
}
EVALUATION: dict[str, Any] = {
    "part": str,
    "samples": int,
    "overrides": [str],
    "test": TEST,
    "calibration": {"uncalibrated": {"ece": NUMBER}, "calibrated": {"ece": NUMBER, "temperature": NUMBER}},
}


@dataclass
class Record:
    """A run as its folder tells it.

    Attributes:
        path: the folder, as it was named.
        text: of config.yaml, `${...}` unresolved.
        stored: the same as a tree.
        choices: the options that were chosen; see stored_config.read_choices.
        results: of results.json with all keys of SHAPE, None where absent; empty where there is no such file.
        rows: of metrics.csv; what is no finite number is None.
        details: of details.json, with all keys of DETAILS; empty where there is no such file.
        evaluations: of what `trainer evaluate` wrote, by file name, each with all keys of EVALUATION.
    """

    path: Path
    text: str
    stored: dict[str, Any]
    choices: dict[str, str]
    results: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, float | None]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """How the run ended, or that it has not."""
        return status(self.path, self.results)

    @property
    def overrides(self) -> list[str] | None:
        """The words that make this run again, a random draw as the number that it gave; None where they are not known,
        as of a run that was resumed: what it began with is not written down."""
        words = self.results.get("overrides")
        if words is None:  # an older run: of a sweep's job, what was typed began them all
            typed = self.results.get("command") or []
            in_sweep = any(w in ("-m", "--multirun") for w in typed) or (self.path.resolve().parent / LEDGER).exists()
            words = None if in_sweep or not typed else typed[1:]
        if words is None or any(word.startswith("resume=") for word in words):
            return None
        return [self._drawn(word) for word in words if "=" in word and not word.startswith(("-", "sweep."))]

    def _drawn(self, word: str) -> str:
        key, _, value = word.lstrip("+").partition("=")
        at: Any = self.stored
        for name in key.split("."):
            at = at.get(name) if isinstance(at, dict) else None
        drawn = "${" in value and isinstance(at, (str, int, float)) and "${" not in str(at)
        return f"{key}={show(at)}" if drawn else word

    @property
    def monitor(self) -> str:
        """The column that decided what was best."""
        return str(self.stored.get("monitor", "valid_loss"))

    @property
    def value(self) -> float | None:
        """Of the monitored column at the best validation."""
        part, _, name = self.monitor.partition("_")
        return (self.results.get(part) or {}).get(name)


def read(path: Path) -> Record:
    """The record of a run's folder.

    Raises:
        UserError: it is no run's folder, or a file in it is not as this program writes it.
    """
    if not (path / "config.yaml").exists():
        what = "it has no config.yaml" if path.is_dir() else "there is no such folder"
        raise UserError(f"{path}: expected a run folder, and {what}.")
    text = _text(path / "config.yaml", MAX_CONFIG_BYTES)
    # Trusted to be shown as it stands: an interpolation in it is never resolved.
    record = Record(path, text, read_config(path, trusted=True), read_choices(path))
    record.results = read_results(path)
    if (path / "metrics.csv").exists():
        record.rows = _rows(path / "metrics.csv")
    if (path / "details.json").exists():
        record.details = _json(path / "details.json", LARGEST_DETAILS, DETAILS)
    record.evaluations = _evaluations(path)
    return record


def _evaluations(path: Path) -> dict[str, dict[str, Any]]:
    """By number; one that is empty is being written at this moment, or was broken off then."""
    found = {
        int(match[1]): entry.path
        for entry in os.scandir(path)
        if (match := re.fullmatch(r"evaluation-([1-9][0-9]{0,5})\.json", entry.name))
        and entry.stat(follow_symlinks=False).st_size
    }
    if len(found) > MOST_EVALUATIONS:
        raise UserError(f"{path}: {len(found):,} evaluations are more than the {MOST_EVALUATIONS:,} shown.")
    read = {Path(name): _json(Path(name), LARGEST_DETAILS, EVALUATION) for _, name in sorted(found.items())}
    return {file.name: evaluation for file, evaluation in read.items()}


def read_results(path: Path) -> dict[str, Any]:
    """results.json of a run's folder with all keys of SHAPE, None where absent; empty where there is no such file.

    Raises:
        UserError: it is not as this program writes it.
    """
    if not (path / "results.json").exists():
        return {}
    results = _json(path / "results.json", LARGEST_BYTES, SHAPE)
    _check_square(results["test"], path / "results.json")
    return results


def status(path: Path, results: dict[str, Any]) -> str:
    """Of results.json; `running` or `broken off` where there is none."""
    if results:
        return results["status"]
    return "running" if folder.is_running(path) else "broken off"


def runs_below(place: Path) -> Iterator[Path]:
    """The folders of runs: `place` itself, or those in it, by name; links are not followed."""
    if (place / "config.yaml").exists():
        yield place
        return
    waiting = [(place, 0)]
    while waiting:
        at, depth = waiting.pop(0)
        try:
            inner = sorted(entry for entry in at.iterdir() if entry.is_dir() and not entry.is_symlink())
        except OSError as error:
            raise UserError(f"{at}: this folder cannot be read ({error.strerror}).") from error
        for entry in inner:
            if (entry / "config.yaml").exists():
                yield entry
            elif depth < DEEPEST and not entry.name.startswith("."):
                waiting.append((entry, depth + 1))


def _text(path: Path, limit: int) -> str:
    try:
        return read_limited(path, limit).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text.") from error


def _json(path: Path, limit: int, shape: dict[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(_text(path, limit), parse_constant=lambda word: None)
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({str(error) or type(error).__name__}).") from error
    try:
        return _shaped(found, shape, "")
    except SchemaError as odd:
        raise UserError(f"{path}: not as this program writes it: {odd}.") from odd


class SchemaError(ValueError):
    """A value is not of its kind; the text says where."""


def _shaped(value: Any, shape: Any, where: str) -> Any:
    """The value with the keys of its shape alone.

    Raises:
        _Odd: something in it is of another kind.
    """
    if isinstance(shape, dict):
        if value is None and where:
            return None
        if not isinstance(value, dict):
            raise SchemaError(f"{where or 'it'} is no mapping")
        value = {printable(str(k)): v for k, v in value.items()}
        named = {k: _shaped(value.get(k), kind, f"{where}.{k}".lstrip(".")) for k, kind in shape.items() if k != "*"}
        others = {k: v for k, v in value.items() if k not in shape and "*" in shape}
        return named | {k: _shaped(v, shape["*"], f"{where}.{k}") for k, v in others.items()}
    if isinstance(shape, list):
        if value is None:
            return None
        if not isinstance(value, list):
            raise SchemaError(f"{where} is no list")
        return [_shaped(item, shape[0], where) for item in value]
    kinds = shape if isinstance(shape, tuple) else (shape,)
    if isinstance(value, bool) or not isinstance(value, (*kinds, int) if float in kinds else kinds):
        raise SchemaError(f"{where} is {'absent' if value is None else f'of type {type(value).__name__}'}")
    if isinstance(value, (int, float)) and not abs(value) < LARGEST_NUMBER:
        raise SchemaError(f"{where} is out of range")
    return printable(value) if isinstance(value, str) else value


def _check_square(test: dict[str, Any] | None, path: Path) -> None:
    """As many rows and columns in the confusion matrix as there are classes."""
    if test is None or test["confusion_matrix"] is None:
        return
    matrix, classes = test["confusion_matrix"], test["per_class"] or []
    if any(len(row) != len(classes) for row in matrix) or len(matrix) != len(classes) or None in matrix:
        raise UserError(f"{path}: not as this program writes it: test.confusion_matrix does not fit test.per_class.")


def _rows(path: Path) -> list[dict[str, float | None]]:
    try:
        rows = folder.parse_metrics(_text(path, LARGEST_BYTES))
    except UserError:
        raise
    except (ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{path}: not readable ({error}).") from error
    return [{k: v if v is not None and abs(v) < LARGEST_NUMBER else None for k, v in row.items()} for row in rows]
