"""TensorBoard: scalars by step, and hyperparameters with the final metrics for its HParams view."""

from __future__ import annotations

from pathlib import Path

from trainer.config.keys import LoggerConfig
from trainer.records.contents import make_folder
from trainer.trackers.base import Figures, Parameters, Tracker

SPLITS = ("best_train", "best_valid", "train", "valid", "test")


class TensorBoard(Tracker):
    """Event files in `tensorboard/` of the run folder. A resumed run purges the events after its checkpoint."""

    def __init__(self, config: LoggerConfig, folder: Path, parameters: Parameters, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.parameters = parameters
        make_folder(folder / "tensorboard")
        self.writer = SummaryWriter(folder / "tensorboard", purge_step=step + 1 if step else None)

    def row(self, step: int, figures: Figures) -> None:
        """Add the scalars of a validation."""
        for name, value in figures.items():
            self.writer.add_scalar(_tag(name), value, step)
        self.writer.flush()

    def end(self, status: str, figures: Figures) -> None:
        """Add hyperparameters and final metrics, and close the files."""
        metrics = {_tag(name): value for name, value in figures.items()}
        self.writer.add_hparams({**self.parameters, "status": status}, metrics, run_name=".")
        self.writer.close()


def _tag(name: str) -> str:
    """Return `loss/train` for `train_loss`: TensorBoard groups tags by their prefix before the slash."""
    for split in SPLITS:
        if name.startswith(f"{split}_"):
            return f"{name[len(split) + 1 :]}/{split}"
    return name
