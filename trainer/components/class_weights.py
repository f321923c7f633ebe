"""The weights of classes or labels in the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.data.multilabel import MultiLabel
from trainer.data.tasks import Task
from trainer.errors import Problem, UserError


def class_weights(weight: str | list[float] | None, task: Task, targets: Tensor) -> Tensor | None:
    """Return the weights of `loss.weight`, float64 [C]; None if all are equal.

    `balanced` is samples / (classes * samples of the class), as in scikit-learn. The weight of a label is that of the
    samples that have it, where samples that do not count as 1: `balanced` gives both the same sum.

    Args:
        targets: of the training samples: classes [N], or labels [N, C].

    Raises:
        UserError: not one positive number per class, or no classes.
    """
    if weight is None:
        return None
    if not task.classes:
        raise UserError(Problem("loss.weight", "the task is a regression; there are no classes to weight"))
    if weight == "balanced" and isinstance(task, MultiLabel):
        present = (targets > 0).sum(0).double()
        return (len(targets) - present).clamp(min=1) / present.clamp(min=1)
    if weight == "balanced":
        counts = torch.bincount(targets, minlength=len(task.classes)).double()
        return len(targets) / (len(task.classes) * counts.clamp(min=1))
    valid = isinstance(weight, list) and all(isinstance(w, (int, float)) and w > 0 for w in weight)
    if not valid or len(weight) != len(task.classes):
        what = "label" if isinstance(task, MultiLabel) else "class"
        reason = f"expected balanced or {len(task.classes)} positive numbers, one for each {what}"
        raise UserError(Problem("loss.weight", reason, given=str(weight)))
    return torch.tensor(weight, dtype=torch.float64)
