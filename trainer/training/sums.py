"""Running sums of loss and correct predictions, kept on the device while training.

Shape letters: R runs (absent for a single run), B samples of a batch, C outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.data.tasks import Task
from trainer.device import exact_dtype


class RunningSums:
    """Loss and correct predictions of each run since its last validation, summed on the device and divided once.

    Adding never synchronises with the device. A sum stays non-finite once a loss was, so that one check covers all
    steps.

    Attributes:
        device: where the sums are.
        loss_R: sums of the batches' mean losses times their weights; float64, float32 on Apple GPUs.
        weight_R: sums of the batches' weights in the mean loss; numbers of samples without class weights.
        correct_R: correct predictions, int64; each label of a multi-label task is one.
        count_R: samples, int64; on the CPU, where it is needed.
    """

    def __init__(self, num_runs: int, device: torch.device, task: Task) -> None:
        exact = exact_dtype(device)
        self.task, self.device = task, device
        self.loss_R = torch.zeros(num_runs, dtype=exact, device=device)
        self.weight_R = torch.zeros(num_runs, dtype=exact, device=device)
        self.correct_R = torch.zeros(num_runs, dtype=torch.int64, device=device)
        self.count_R = torch.zeros(num_runs, dtype=torch.int64)

    NAMES = ("loss_R", "weight_R", "correct_R", "count_R")

    @classmethod
    def joined(cls, members: Sequence[RunningSums]) -> RunningSums:
        """Return the sums of several runs in one; the tensors of `members` become views of it."""
        first = members[0]
        joint = cls(len(members), first.device, first.task)
        for name in cls.NAMES:
            setattr(joint, name, torch.cat([getattr(member, name) for member in members]))
            for run, member in enumerate(members):
                setattr(member, name, getattr(joint, name)[run : run + 1])
        return joint

    def add(self, loss_R: Tensor, outputs_RBC: Tensor, targets: Tensor, weight: Tensor | int) -> None:
        """Add a batch. The tensors must be detached.

        Args:
            loss_R: mean loss of the batch.
            outputs_RBC: outputs of the model.
            targets: [B] or [B, K], or [R, B, ...] if each run has samples of its own.
            weight: the batch's weight in the mean loss, [R] or one number for all runs.
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
        """Return the indices of the runs with a non-finite loss. Synchronises with the device."""
        return [run for run, loss in enumerate(self.loss_R.tolist()) if not math.isfinite(loss)]

    def result(self, run: int = 0) -> dict[str, float | None]:
        """Return the training columns of metrics.csv for one run; None before the first batch."""
        samples = int(self.count_R[run])
        count = samples or math.nan
        figures = {"train_loss": self.loss_R[run].item() / (self.weight_R[run].item() or math.nan)}
        if self.task.counted is not None:
            figures[f"train_{self.task.counted}"] = self.correct_R[run].item() / (count * self.task.answers)
        return {name: value if samples else None for name, value in figures.items()}

    def reset(self) -> None:
        """Set all sums to zero."""
        for name in self.NAMES:
            getattr(self, name).zero_()

    def state_dict(self) -> dict[str, Any]:
        """Return the sums of a single run on the CPU."""
        return {
            "loss": self.loss_R.cpu(),
            "weight": self.weight_R.cpu(),
            "correct": self.correct_R.cpu(),
            "count": int(self.count_R[0]),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the sums that `state_dict` returned."""
        self.loss_R.copy_(state["loss"])
        self.weight_R.copy_(state["weight"])
        self.correct_R.copy_(state["correct"])
        self.count_R.fill_(state["count"])
