"""Weights & Biases: stored in the run folder, sent nowhere unless `logger.online=true`."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

from trainer.config.keys import LoggerConfig
from trainer.records.contents import make_folder
from trainer.trackers.base import Figures, Parameters, Tracker


class Wandb(Tracker):
    """A run in `wandb/` of the run folder. Its id is derived from the folder's path, so that resuming continues it."""

    def __init__(self, config: LoggerConfig, folder: Path, parameters: Parameters, step: int) -> None:
        import wandb

        make_folder(folder / "wandb")
        identity = blake2b(str(folder.resolve()).encode(), digest_size=8).hexdigest()
        self.run = wandb.init(
            project=config.project,
            name=folder.name,
            id=identity,
            resume="allow" if config.online else None,
            dir=folder,
            mode="online" if config.online else "offline",
            config=parameters,
            settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
        )

    @staticmethod
    def destination(config: LoggerConfig) -> str | None:
        return "Weights & Biases" if config.online else None

    def row(self, step: int, figures: Figures) -> None:
        """Log the metrics of a validation."""
        self.run.log(figures, step=step)

    def end(self, status: str, figures: Figures) -> None:
        """Write the final metrics as the run's summary, and end it."""
        self.run.summary.update({**figures, "status": status})
        self.run.finish(exit_code=0 if status in ("completed", "early_stopped", "pruned") else 1)
