"""Exact sums on the device while training.

Shape letters: R runs (absent where one run trains alone), B samples of a batch, C outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.data.tasks import Task


class RunningSums:
    """Loss and right answers of each run since its last validation, summed on the device and divided once.

    Adding never waits for the device. A loss stays non-finite once it was, so one look at it tells of all.

    Attributes:
        weight_R: what the samples count for in the mean loss, which is their number where classes have no weights.
        count_R: samples; not on the device, where nobody asks for it.
    """

    def __init__(self, num_runs: int, device: torch.device, task: Task) -> None:
        exact = torch.float32 if device.type == "mps" else torch.float64
        self.task = task
        self.loss_R = torch.zeros(num_runs, dtype=exact, device=device)
        self.weight_R = torch.zeros(num_runs, dtype=exact, device=device)
        self.correct_R = torch.zeros(num_runs, dtype=torch.int64, device=device)
        self.count_R = torch.zeros(num_runs, dtype=torch.int64)

    NAMES = ("loss_R", "weight_R", "correct_R", "count_R")

    @classmethod
    def joined(cls, parts: Sequence[RunningSums]) -> RunningSums:
        """The sums of several runs in one; from now on `parts` are views of it."""
        first = parts[0]
        whole = cls(len(parts), first.loss_R.device, first.task)
        for name in cls.NAMES:
            setattr(whole, name, torch.cat([getattr(part, name) for part in parts]))
            for run, part in enumerate(parts):
                setattr(part, name, getattr(whole, name)[run : run + 1])
        return whole

    def add(self, loss_R: Tensor, outputs_RBC: Tensor, targets: Tensor, weight: Tensor | int) -> None:
        """Adds a batch; `loss_R` is its mean loss, `targets` are [B] or, where each run has its own, [R, B].

        Takes what is detached.

        Args:
            weight: of the batch in the mean loss, [R] or one for all.
        """
        batch = outputs_RBC.shape[-2]
        if isinstance(weight, Tensor):
            self.loss_R.add_(loss_R.to(self.loss_R) * weight)
        else:
            self.loss_R.add_(loss_R, alpha=weight)
        self.weight_R.add_(weight)
        correct_R = self.task.correct(outputs_RBC, targets)
        if correct_R is not None:
            self.correct_R.add_(correct_R)
        self.count_R.add_(batch)

    def nonfinite_runs(self) -> list[int]:
        """The runs of which a loss was not finite; waits for the device."""
        if math.isfinite(self.loss_R.sum().item()):
            return []
        return self.loss_R.isfinite().logical_not().nonzero().flatten().tolist()

    def result(self, run: int = 0) -> dict[str, float | None]:
        """The columns of metrics.csv that are about training; None before the first batch."""
        samples = int(self.count_R[run])
        count = samples or math.nan
        figures = {"train_loss": self.loss_R[run].item() / (self.weight_R[run].item() or math.nan)}
        if "train_accuracy" in self.task.columns:
            figures["train_accuracy"] = self.correct_R[run].item() / count
        return {name: value if samples else None for name, value in figures.items()}

    def reset(self) -> None:
        for name in self.NAMES:
            getattr(self, name).zero_()

    def state_dict(self) -> dict[str, Any]:
        return {
            "loss": self.loss_R.cpu(),
            "weight": self.weight_R.cpu(),
            "correct": self.correct_R.cpu(),
            "count": int(self.count_R[0]),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loss_R.copy_(state["loss"])
        self.weight_R.copy_(state["weight"])
        self.correct_R.copy_(state["correct"])
        self.count_R.fill_(state["count"])
