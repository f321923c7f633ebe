"""Metrics of a classification over a whole split. Shape letters: N samples, C classes."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.data.metrics import TOP_K, ClassReport, SplitReport


def classification_report(
    classes: tuple[str, ...],
    predicted_N: Tensor,
    outputs_NC: Tensor,
    targets_N: Tensor,
    loss: float | None,
    *,
    logits: bool,
) -> SplitReport:
    """Return everything that is measured on a split.

    `precision`, `recall` and `f1` are means over the classes that have samples; so is `auroc`, one class against the
    rest, which is None if a class has no sample.

    Args:
        classes: names in label order.
        predicted_N: int64, the predicted classes.
        outputs_NC: of the model, or [N, 1] for the second of two classes.
        targets_N: int64.
        logits: whether the outputs are logits; those of one sample compare with another's only after a softmax.
    """
    from torchmetrics.functional import classification as tm

    num_classes = len(classes)
    confusion = tm.multiclass_confusion_matrix(predicted_N, targets_N, num_classes)
    totals, correct = confusion.sum(1).tolist(), confusion.diag().tolist()
    metrics: dict[str, float | None] = {"loss": loss, "accuracy": sum(correct) / len(targets_N)}
    if num_classes > 2 * TOP_K:
        top = outputs_NC.topk(TOP_K, dim=1).indices
        metrics[f"top{TOP_K}_accuracy"] = (top == targets_N[:, None]).any(1).sum().item() / len(targets_N)
    per_class = {
        "precision": tm.multiclass_precision(predicted_N, targets_N, num_classes, average="none"),
        "recall": tm.multiclass_recall(predicted_N, targets_N, num_classes, average="none"),
        "f1": tm.multiclass_f1_score(predicted_N, targets_N, num_classes, average="none"),
    }
    present = torch.tensor(totals) > 0
    for name, values in per_class.items():
        metrics[name] = values[present].double().mean().item()
    metrics["balanced_accuracy"] = metrics["recall"]
    metrics["auroc"] = _auroc(outputs_NC, targets_N, num_classes, logits) if bool(present.all()) else None
    reports = [
        _class_report(name, correct[i], totals[i], {metric: values[i].item() for metric, values in per_class.items()})
        for i, name in enumerate(classes)
    ]
    return SplitReport(metrics, 0.5 if num_classes == 2 else None, reports, confusion.tolist())


def _class_report(name: str, correct: int, total: int, metrics: dict[str, float]) -> ClassReport:
    """Return the report of one class; its fractions are None if it has no sample."""
    fractions = metrics if total else dict.fromkeys(metrics)
    return ClassReport(name, correct, total, correct / total if total else None, **fractions)


def _auroc(outputs_NC: Tensor, targets_N: Tensor, num_classes: int, logits: bool) -> float:
    """Compute the area under the ROC curve from ranks: saturated probabilities of different scores would be ties."""
    from torchmetrics.functional import classification as tm

    scores_NC = outputs_NC.double()
    if num_classes == 2:
        score_N = scores_NC[:, 0] if scores_NC.shape[1] == 1 else scores_NC[:, 1] - scores_NC[:, 0]
        return tm.binary_auroc(ranks(score_N), targets_N).item()
    if logits:
        scores_NC = scores_NC.log_softmax(dim=1)
    ranks_NC = torch.stack([ranks(column) for column in scores_NC.T], dim=1)
    present = targets_N.unique()
    values = [tm.binary_auroc(ranks_NC[:, c], (targets_N == c).long()) for c in present.tolist()]
    return torch.stack(values).double().mean().item()


def ranks(scores_N: Tensor) -> Tensor:
    """Map scores to float64 ranks from 0 to 1, in the same order, with ties kept."""
    distinct, rank_N = scores_N.unique(return_inverse=True)
    return rank_N.double() / max(len(distinct) - 1, 1)
