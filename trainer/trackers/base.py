"""What a run tells a tracker, and what happens where the tracker fails: the run goes on, and says so once."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from trainer.config.keys import LoggerConfig
from trainer.errors import Problem, show
from trainer.records.metrics import MetricsRow
from trainer.records.results import Results

# The library of each tracker, and the extra that brings it.
LIBRARIES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
Figures = dict[str, float]


class Tracker(Protocol):
    """An open run in some tracker's books."""

    def row(self, step: int, figures: Figures) -> None:
        """A validation after `step` optimizer steps."""

    def end(self, status: str, figures: Figures) -> None:
        """The run is over; nothing follows."""


class SafeTracker:
    """A tracker that may fail without harm; None where there is none.

    Args:
        start: opens the tracker.
        note: is told, once, what went wrong.
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

    def _try(self, what: Callable[[], Any]) -> Any:
        try:
            return what()
        except Exception as error:  # whatever a library, a server or a disk comes up with
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            self.note(f"logger={self.name} failed and is off from here on: {reason}")
            self.tracker = None
            return None


def problems(config: LoggerConfig) -> list[Problem]:
    """A problem if the tracker's library is not installed."""
    library = LIBRARIES.get(config.name)
    if library is None or importlib.util.find_spec(library) is not None:
        return []
    command = f"pip install 'trainer-cli[{library}]'"
    return [Problem("logger", f"{library} is not installed", given=config.name, command=command)]


def external_destination(config: LoggerConfig) -> str | None:
    """Where results would be sent from this machine; None where they stay on it."""
    if config.name == "wandb" and config.online:
        return "Weights & Biases"
    if config.name == "mlflow" and config.uri is not None and not config.uri.startswith("sqlite:"):
        return config.uri
    return None


def final_figures(results: Results) -> Figures:
    """Return the metrics of the best validation and of the test, and what the run took, by column name."""
    values: dict[str, float | None] = {}
    for split, prefix in (("train", "best_train"), ("valid", "best_valid"), ("test", "test")):
        values |= {f"{prefix}_{name}": value for name, value in results.split(split).items()}
    values |= {"best_epoch": results.best_epoch, "epochs": results.epochs}
    values |= {"parameters": results.parameters.get("total"), "seconds": results.seconds.get("total")}
    return {name: float(value) for name, value in values.items() if value is not None}


def flat(leaves: list[tuple[str, Any]]) -> dict[str, str | int | float | bool]:
    """Hyperparameters as trackers take them: numbers, truth values and texts."""
    return {key: value if isinstance(value, (str, int, float, bool)) else show(value) for key, value in leaves}


def opener(
    config: LoggerConfig, folder: Path, leaves: list[tuple[str, Any]], step: int
) -> Callable[[], Tracker | None]:
    """What opens the chosen tracker.

    Args:
        folder: of the run.
        leaves: (key, value) of the stored configuration.
        step: finished optimizer steps; above 0 the run continues.
    """

    def start() -> Tracker | None:
        parameters = flat(leaves)
        if config.name == "tensorboard":
            from trainer.trackers.tensorboard import TensorBoard

            return TensorBoard(folder, parameters, step)
        if config.name == "mlflow":
            from trainer.trackers.mlflow import MLflow

            return MLflow(config, folder, parameters)
        if config.name == "wandb":
            from trainer.trackers.wandb import Wandb

            return Wandb(config, folder, parameters)
        return None

    return start
