"""TensorBoard: scalars by step, and hyperparameters with the final figures for its HParams view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Event files in `tensorboard/` of the run's folder; what a broken-off run wrote beyond `step` is taken back."""

    def __init__(self, folder: Path, parameters: dict[str, Any], step: int) -> None:
        self.parameters = parameters
        self.writer = SummaryWriter(folder / "tensorboard", purge_step=step + 1 if step else None)

    def row(self, step: int, figures: dict[str, float]) -> None:
        """Adds the scalars of a validation."""
        for name, value in figures.items():
            self.writer.add_scalar(_grouped(name), value, step)
        self.writer.flush()

    def end(self, status: str, figures: dict[str, float]) -> None:
        """Adds hyperparameters and final figures, and closes the files."""
        metrics = {_grouped(name): value for name, value in figures.items()}
        self.writer.add_hparams({**self.parameters, "status": status}, metrics, run_name=".")
        self.writer.close()


def _grouped(name: str) -> str:
    """`loss/train` for `train_loss`: TensorBoard shows in one row what shares the first part."""
    for part in ("best_train", "best_valid", "train", "valid", "test"):
        if name.startswith(f"{part}_"):
            return f"{name.removeprefix(f'{part}_')}/{part}"
    return name
