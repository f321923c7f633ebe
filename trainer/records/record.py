"""The record of a finished, running or killed run, read from a folder that anyone may have written.

Nothing here is resolved, constructed or run: a record consists of plain values of the expected types, and any other
content is reported in one sentence. Does not import torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.config.limits import MOST_BYTES
from trainer.config.overrides import value_at
from trainer.config.stored import StoredConfig
from trainer.data.metrics import SplitReport
from trainer.errors import Problem, UserError, show
from trainer.files import read_text
from trainer.records import metrics
from trainer.records.contents import exists
from trainer.records.details import Details, EvaluationRecord, read_details, read_evaluations
from trainer.records.explained import Explained, read_explained
from trainer.records.folder import is_running
from trainer.records.metrics import MetricsRow, read_metrics, x_axis
from trainer.records.results import Results, read_results
from trainer.records.summary import ModelSummary, read_summary

MAX_DEPTH = 4  # levels of folders that are searched for runs


@dataclass
class Record:
    """A run as its folder describes it.

    Attributes:
        path: the folder, as the user named it.
        text: content of config.yaml, with unresolved interpolations.
        stored: the same as nested dicts.
        choices: the chosen option of each group, for display.
        results: None while the run is going on, or if it was killed.
        rows: rows of metrics.csv.
        evaluations: evaluations by file name.
        explained: what `trainer explain` left.
        summary: the layers of the model.
    """

    path: Path
    text: str
    stored: dict[str, Any]
    choices: dict[str, str]
    results: Results | None = None
    rows: list[MetricsRow] = field(default_factory=list)
    details: Details = field(default_factory=Details)
    evaluations: dict[str, EvaluationRecord] = field(default_factory=dict)
    explained: Explained = field(default_factory=Explained)
    summary: ModelSummary | None = None

    @property
    def test(self) -> SplitReport | None:
        """The report of the test; None if the run was not tested."""
        return self.results.test if self.results else None

    @property
    def across(self) -> str:
        """The x axis of curves: `epoch`, or `step` if a validation was inside an epoch."""
        return x_axis([row.moment for row in self.rows], self.results.steps_per_epoch if self.results else None)

    @property
    def best(self) -> int | None:
        """The best validation on the axis of curves."""
        return getattr(self.results, f"best_{self.across}") if self.results else None

    @property
    def status(self) -> str:
        """The status of the run; see `status`."""
        return status(self.path, self.results)

    @property
    def overrides(self) -> list[str] | None:
        """The overrides that start the same run again, a random draw replaced by its value.

        None if they are not known: a run that was resumed does not store what it was started with.
        """
        words = self.results.overrides if self.results else None
        if words is None or any(word.startswith("resume=") for word in words):
            return None
        return [self._drawn(word) for word in words if "=" in word and not word.startswith(("-", "sweep."))]

    def _drawn(self, word: str) -> str:
        key, _, value = word.lstrip("+").partition("=")
        stored = value_at(self.stored, key)
        is_drawn = "${" in value and isinstance(stored, (str, int, float)) and "${" not in str(stored)
        return f"{key}={show(stored)}" if is_drawn else word


def read(path: Path) -> Record:
    """Return the record of a run folder.

    Raises:
        UserError: it is not a run folder, or a file in it cannot be read or has unexpected content.
    """
    if not exists(path / "config.yaml"):
        what = "it has no config.yaml" if os.path.isdir(path) else "there is no such folder"
        raise UserError(Problem(str(path), f"expected a run folder, but {what}"))
    text = read_text(path / "config.yaml", MOST_BYTES)
    stored = StoredConfig.parse(text, path / "config.yaml")
    return Record(
        path,
        text,
        stored.tree,
        stored.choices,
        read_results(path),
        read_metrics(path / metrics.FILE) if exists(path / metrics.FILE) else [],
        read_details(path),
        read_evaluations(path),
        read_explained(path),
        read_summary(path),
    )


def status(path: Path, results: Results | None) -> str:
    """Return the status of a run; without results it is `running` or `broken off`."""
    if results is not None:
        return results.status
    return "running" if is_running(path) else "broken off"


def runs_below(place: Path) -> Iterator[Path]:
    """Yield the run folders at or below a folder, by name; symbolic links are not followed.

    Raises:
        UserError: a folder cannot be read.
    """
    if exists(place / "config.yaml"):
        yield place
        return
    waiting = [(place, 0)]
    while waiting:
        folder, depth = waiting.pop(0)
        try:
            inner = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())
        except OSError as error:
            reason = f"this folder cannot be read ({error.strerror})"
            raise UserError(Problem(str(folder), reason)) from error
        for entry in inner:
            if exists(entry / "config.yaml"):
                yield entry
            elif depth < MAX_DEPTH and not entry.name.startswith("."):
                waiting.append((entry, depth + 1))
