"""The interface of trackers, their choice by name, and a wrapper that keeps their failures from the run.

A new tracker is a subclass of Tracker in `trainer/trackers/NAME.py`, an option `conf/logger/NAME.yaml` and an extra of
the same name in pyproject.toml.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from trainer import trackers
from trainer.config.keys import LoggerConfig
from trainer.errors import Problem, show
from trainer.records.metrics import MetricsRow
from trainer.records.results import Results

Figures = dict[str, float]
Parameters = dict[str, str | int | float | bool]
NAMES = tuple(module.name for module in pkgutil.iter_modules(trackers.__path__) if module.name != "base")


class Tracker(ABC):
    """An open run in a tracker. The module's name is that of the library, which `__init__` imports, and of the extra.

    Args:
        config: keys of `logger`.
        folder: folder of the run.
        parameters: hyperparameters by key.
        step: finished optimizer steps; above 0 if the run is resumed.
    """

    @abstractmethod
    def __init__(self, config: LoggerConfig, folder: Path, parameters: Parameters, step: int) -> None: ...

    @staticmethod
    def destination(config: LoggerConfig) -> str | None:
        """Return the destination outside this machine of the results; None if they stay on it."""
        return None

    @abstractmethod
    def row(self, step: int, figures: Figures) -> None:
        """Log a validation after `step` optimizer steps."""

    @abstractmethod
    def end(self, status: str, figures: Figures) -> None:
        """Log the end of the run; nothing follows."""


def tracker_class(name: str) -> type[Tracker] | None:
    """Return the class of `trainer/trackers/NAME.py`; None for `csv`, which is no tracker."""
    if name not in NAMES:
        return None
    module = importlib.import_module(f"trainer.trackers.{name}")
    classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Tracker)]
    [kind] = [value for value in classes if value is not Tracker]
    return kind


class SafeTracker:
    """A tracker that may fail without harm to the run.

    Args:
        start: opens the tracker; may return None, and then nothing is logged.
        note: called once with a sentence if the tracker fails.
    """

    def __init__(self, name: str, start: Callable[[], Tracker | None], note: Callable[[str], None]) -> None:
        self.name, self.note = name, note
        self.tracker: Tracker | None = None
        self.tracker = self._try(start)

    def row(self, row: MetricsRow) -> None:
        """Log a row of metrics.csv."""
        tracker = self.tracker
        if tracker is not None:
            values = row.to_dict().items()
            figures = {name: float(value) for name, value in values if value is not None and name != "step"}
            self._try(lambda: tracker.row(row.step, figures))

    def end(self, results: Results) -> None:
        """Log the final figures and end the tracker's run."""
        tracker = self.tracker
        if tracker is not None:
            self._try(lambda: tracker.end(results.status, final_figures(results)))
            self.tracker = None

    def _try(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:  # of a library, a server or a disk
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            self.note(f"logger={self.name} failed and is off from here on: {reason}")
            self.tracker = None
            return None


def problems(config: LoggerConfig) -> list[Problem]:
    """Return a problem if there is no such tracker, or its library is not installed."""
    name = config.name
    if name not in ("csv", *NAMES):
        return [Problem("logger.name", f"expected one of csv, {', '.join(NAMES)}", given=name)]
    if name == "csv" or importlib.util.find_spec(name) is not None:
        return []
    return [Problem("logger", f"{name} is not installed", given=name, command=f"pip install 'trainer-cli[{name}]'")]


def external_destination(config: LoggerConfig) -> str | None:
    """Return the destination outside this machine of the results; None if they stay on it."""
    kind = tracker_class(config.name)
    return kind.destination(config) if kind else None


def final_figures(results: Results) -> Figures:
    """Return the metrics of the best validation and of the test, and the cost of the run, by column name."""
    values: dict[str, float | None] = {}
    for split, prefix in (("train", "best_train"), ("valid", "best_valid"), ("test", "test")):
        values |= {f"{prefix}_{name}": value for name, value in results.split(split).items()}
    values |= {"best_epoch": results.best_epoch, "best_step": results.best_step, "epochs": results.epochs}
    values |= {"parameters": results.parameters.get("total"), "seconds": results.seconds.get("total")}
    return {name: float(value) for name, value in values.items() if value is not None}


def open_tracker(config: LoggerConfig, folder: Path, leaves: Iterable[tuple[str, Any]], step: int) -> Tracker | None:
    """Open the chosen tracker, see Tracker; `leaves` are (key, value) pairs of the stored configuration."""
    kind = tracker_class(config.name)
    parameters = {key: value if isinstance(value, (str, int, float, bool)) else show(value) for key, value in leaves}
    return kind(config, folder, parameters, step) if kind else None
