"""Figures: exact sums on the device while training, and torchmetrics over all outputs of a split at once.

Shape letters: R runs (absent where one run trains alone), B samples of a batch, N samples of a split, C outputs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

TOP_K = 5


def predictions(outputs: Tensor) -> Tensor:
    """Class index [...] of outputs [..., C]; with one output, 1 where the logit is above 0 (probability 0.5)."""
    if outputs.shape[-1] == 1:
        return (outputs[..., 0] > 0).long()
    return outputs.argmax(-1)


class Sums:
    """Loss and right answers since the last validation, summed on the device and divided once.

    Adding never waits for the device. `loss` stays non-finite once a loss was, so one look at it tells of all.
    """

    def __init__(self, num_runs: int, device: torch.device) -> None:
        exact = torch.float32 if device.type == "mps" else torch.float64
        self.loss_R = torch.zeros(num_runs, dtype=exact, device=device)
        self.correct_R = torch.zeros(num_runs, dtype=torch.int64, device=device)
        self.count = 0

    def add(self, loss_R: Tensor, outputs_RBC: Tensor, targets_B: Tensor) -> None:
        """Adds a batch; `loss_R` is its mean loss. Takes what is detached."""
        batch = len(targets_B)
        self.loss_R.add_(loss_R, alpha=batch)
        self.correct_R.add_((predictions(outputs_RBC) == targets_B).sum(-1))
        self.count += batch

    def finite(self) -> bool:
        """Whether all losses so far were finite; waits for the device."""
        return math.isfinite(self.loss_R.sum().item())

    def result(self, run: int = 0) -> dict[str, float | None]:
        if not self.count:
            return {"loss": None, "accuracy": None}
        return {"loss": self.loss_R[run].item() / self.count, "accuracy": self.correct_R[run].item() / self.count}

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


def accuracy(outputs_NC: Tensor, targets_N: Tensor) -> float:
    """Share of right answers."""
    return (predictions(outputs_NC) == targets_N).sum().item() / len(targets_N)


def probabilities(outputs_NC: Tensor) -> Tensor:
    """[N, classes] of logits; one output gives both classes."""
    if outputs_NC.shape[1] == 1:
        positive = outputs_NC.float().sigmoid()
        return torch.cat([1 - positive, positive], dim=1)
    return outputs_NC.float().softmax(dim=1)


def test_report(outputs_NC: Tensor, targets_N: Tensor, loss: float, classes: tuple[str, ...]) -> dict[str, Any]:
    """The `test` block of results.json; shares are fractions, and null where a class has no sample.

    `precision`, `recall` and `f1` are means over the classes that have samples.
    """
    from torchmetrics.functional import classification as tm

    num_classes = len(classes)
    outputs_NC, targets_N = outputs_NC.cpu(), targets_N.cpu()
    predicted_N = predictions(outputs_NC)
    confusion = tm.multiclass_confusion_matrix(predicted_N, targets_N, num_classes)
    totals, correct = confusion.sum(1).tolist(), confusion.diag().tolist()
    report: dict[str, Any] = {"loss": loss, "accuracy": sum(correct) / len(targets_N)}
    if num_classes > 2 * TOP_K:
        top = outputs_NC.topk(TOP_K, dim=1).indices
        report[f"top{TOP_K}_accuracy"] = (top == targets_N[:, None]).any(1).sum().item() / len(targets_N)
    per_class = {
        "precision": tm.multiclass_precision(predicted_N, targets_N, num_classes, average="none"),
        "recall": tm.multiclass_recall(predicted_N, targets_N, num_classes, average="none"),
        "f1": tm.multiclass_f1_score(predicted_N, targets_N, num_classes, average="none"),
    }
    present = torch.tensor(totals) > 0
    for name, values in per_class.items():
        report[name] = values[present].double().mean().item()
    if num_classes == 2:
        report["threshold"] = 0.5
        both = bool(present.all())
        report["auroc"] = tm.binary_auroc(probabilities(outputs_NC)[:, 1], targets_N).item() if both else None
    report["per_class"] = [
        {
            "class": name,
            "correct": correct[i],
            "total": totals[i],
            "accuracy": correct[i] / totals[i] if totals[i] else None,
            **{metric: values[i].item() if totals[i] else None for metric, values in per_class.items()},
        }
        for i, name in enumerate(classes)
    ]
    report["confusion_matrix"] = confusion.tolist()
    return report
