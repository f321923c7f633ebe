"""MLflow: parameters, metrics by step and the end of the run, through its client, without its global state."""

from __future__ import annotations

import time
from pathlib import Path

from trainer.config.keys import LoggerConfig
from trainer.records.folder import outputs_folder
from trainer.trackers.base import Figures, Parameters, Tracker

FOLDER = "trainer.folder"  # tag by which a resumed run is found
MAX_LENGTH = 6000  # characters of a parameter
MAX_PARAMETERS = 100  # in one call
ENDINGS = {"completed": "FINISHED", "early_stopped": "FINISHED", "interrupted": "KILLED", "pruned": "KILLED"}


class MLflow(Tracker):
    """A run in the store that `logger.uri` names; default: outputs/mlflow.db."""

    def __init__(self, config: LoggerConfig, folder: Path, parameters: Parameters, step: int) -> None:
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        outputs = outputs_folder()
        outputs.mkdir(parents=True, exist_ok=True)
        self.metric = Metric
        self.client = MlflowClient(tracking_uri=config.uri or f"sqlite:///{(outputs / 'mlflow.db').resolve()}")
        existing = self.client.get_experiment_by_name(config.project)
        experiment = existing.experiment_id if existing else self.client.create_experiment(config.project)
        path = str(folder.resolve()).replace("'", "")
        earlier = self.client.search_runs([experiment], f"tags.`{FOLDER}` = '{path}'", max_results=1)
        if earlier:
            self.run = earlier[0].info.run_id
            self.client.update_run(self.run, status="RUNNING")
            return
        self.run = self.client.create_run(experiment, run_name=folder.name, tags={FOLDER: path}).info.run_id
        params = [Param(key, str(value)[:MAX_LENGTH]) for key, value in parameters.items()]
        for start in range(0, len(params), MAX_PARAMETERS):
            self.client.log_batch(self.run, params=params[start : start + MAX_PARAMETERS])

    @staticmethod
    def destination(config: LoggerConfig) -> str | None:
        return None if config.uri is None or config.uri.startswith("sqlite:") else config.uri

    def row(self, step: int, figures: Figures) -> None:
        """Log the metrics of a validation."""
        now = int(time.time() * 1000)
        metrics = [self.metric(name, value, now, step) for name, value in figures.items()]
        self.client.log_batch(self.run, metrics=metrics)

    def end(self, status: str, figures: Figures) -> None:
        """Log the final metrics and end the run."""
        self.row(0, figures)
        self.client.set_tag(self.run, "trainer.status", status)
        self.client.set_terminated(self.run, ENDINGS.get(status, "FAILED"))
