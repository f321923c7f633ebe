"""Weights & Biases: kept in the run's folder, sent nowhere unless `logger.online=true`."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any

import wandb

from trainer.config.keys import LoggerConfig


class Wandb:
    """A run in `wandb/` of the run's folder. The same folder has the same id, so that a resumed run goes on."""

    def __init__(self, config: LoggerConfig, folder: Path, parameters: dict[str, Any]) -> None:
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

    def row(self, step: int, figures: dict[str, float]) -> None:
        """Logs the figures of a validation."""
        self.run.log(figures, step=step)

    def end(self, status: str, figures: dict[str, float]) -> None:
        """Writes the final figures as the run's summary, and ends it."""
        self.run.summary.update({**figures, "status": status})
        self.run.finish(exit_code=0 if status in ("completed", "early_stopped", "pruned") else 1)
