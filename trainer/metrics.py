"""Exact sums on the device while training.

Shape letters: R runs (absent where one run trains alone), B samples of a batch, C outputs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from trainer.tasks import Task


class Sums:
    """Loss and right answers since the last validation, summed on the device and divided once.

    Adding never waits for the device. `loss` stays non-finite once a loss was, so one look at it tells of all.
    """

    def __init__(self, num_runs: int, device: torch.device, task: Task) -> None:
        exact = torch.float32 if device.type == "mps" else torch.float64
        self.task = task
        self.loss_R = torch.zeros(num_runs, dtype=exact, device=device)
        self.correct_R = torch.zeros(num_runs, dtype=torch.int64, device=device)
        self.count = 0

    def add(self, loss_R: Tensor, outputs_RBC: Tensor, targets_B: Tensor) -> None:
        """Adds a batch; `loss_R` is its mean loss. Takes what is detached."""
        batch = len(targets_B)
        self.loss_R.add_(loss_R, alpha=batch)
        correct_R = self.task.correct(outputs_RBC, targets_B)
        if correct_R is not None:
            self.correct_R.add_(correct_R)
        self.count += batch

    def finite(self) -> bool:
        """Whether all losses so far were finite; waits for the device."""
        return math.isfinite(self.loss_R.sum().item())

    def result(self, run: int = 0) -> dict[str, float | None]:
        """The columns of metrics.csv that are about training; None before the first batch."""
        count = self.count or math.nan
        figures = {"train_loss": self.loss_R[run].item() / count}
        if "train_accuracy" in self.task.columns:
            figures["train_accuracy"] = self.correct_R[run].item() / count
        return {name: value if self.count else None for name, value in figures.items()}

    def reset(self) -> None:
        self.loss_R.zero_()
        self.correct_R.zero_()
        self.count = 0

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self.loss_R.cpu(), "correct": self.correct_R.cpu(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loss_R.copy_(state["loss"])
        self.correct_R.copy_(state["correct"])
        self.count = state["count"]
