"""MLflow: parameters, metrics by step and the run's end, through its client, without its global state."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from trainer.config.keys import LoggerConfig
from trainer.records.folder import OUTPUTS

FOLDER = "trainer.records.folder"  # a tag by which a resumed run finds itself
LONGEST = 6000  # characters of a parameter
AT_ONCE = 100  # parameters
ENDINGS = {"completed": "FINISHED", "early_stopped": "FINISHED", "interrupted": "KILLED", "pruned": "KILLED"}


class MLflow:
    """A run in the store that `logger.uri` names; default: outputs/mlflow.db."""

    def __init__(self, config: LoggerConfig, folder: Path, parameters: dict[str, Any]) -> None:
        OUTPUTS.mkdir(exist_ok=True)
        self.client = MlflowClient(tracking_uri=config.uri or f"sqlite:///{(OUTPUTS / 'mlflow.db').resolve()}")
        found = self.client.get_experiment_by_name(config.project)
        experiment = found.experiment_id if found else self.client.create_experiment(config.project)
        place = str(folder.resolve())
        text = place.replace("'", "")
        before = self.client.search_runs([experiment], f"tags.`{FOLDER}` = '{text}'", max_results=1)
        if before:
            self.run = before[0].info.run_id
            self.client.update_run(self.run, status="RUNNING")
            return
        self.run = self.client.create_run(experiment, run_name=folder.name, tags={FOLDER: text}).info.run_id
        params = [Param(key, str(value)[:LONGEST]) for key, value in parameters.items()]
        for first in range(0, len(params), AT_ONCE):
            self.client.log_batch(self.run, params=params[first : first + AT_ONCE])

    def row(self, step: int, figures: dict[str, float]) -> None:
        """Logs the figures of a validation."""
        self._log(figures, step)

    def end(self, status: str, figures: dict[str, float]) -> None:
        """Logs the final figures and ends the run."""
        self._log(figures, 0)
        self.client.set_tag(self.run, "trainer.status", status)
        self.client.set_terminated(self.run, ENDINGS.get(status, "FAILED"))

    def _log(self, figures: dict[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        self.client.log_batch(self.run, metrics=[Metric(name, value, now, step) for name, value in figures.items()])
