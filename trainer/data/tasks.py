"""Tasks: the kind of targets, what a model's outputs mean, and the metrics of its predictions.

Shape letters: R runs (absent if one run trains alone), B samples of a batch, N samples of a split, C outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from trainer.data.classification import classification_report
from trainer.data.extra_metrics import WithExtraMetrics
from trainer.data.metrics import SplitReport, columns, costly
from trainer.data.multilabel import MultiLabel
from trainer.data.regression import Regression
from trainer.errors import Problem, UserError

NO_CLASSES = {  # why a sample has no class, by name of the task
    "regression": "the task is a regression",
    "multilabel": "the task is multilabel, and a sample may have several labels or none",
}
TOLERANCE = 0.02  # of a sum of probabilities in 16 bits


@dataclass(frozen=True)
class Classification(WithExtraMetrics):
    """Prediction of a class; two classes make the task binary, with class 1 as the positive one.

    Attributes:
        classes: names in label order, those of labels in a multi-label task; empty for a regression.
        monitored: costly metrics that are computed at every validation, because one is monitored.
        output: what the model returns: `logits`, `probabilities` or `log_probabilities`.
        scale: mean and standard deviation by which a regression's targets are scaled for the model; None for classes.
        counted: the metric that is the share of correct answers, which training counts too; None if there is none.
        answers: numbers or answers that are predicted for a sample.
        several: whether a sample's target is a row [K] of numbers or labels.
        columns: the task's columns of metrics.csv.
        monitors: the columns that `monitor` may name.
    """

    classes: tuple[str, ...]
    monitored: tuple[str, ...] = ()
    output: str = "logits"

    scale: ClassVar = None
    counted: ClassVar[str | None] = "accuracy"
    answers: ClassVar[int] = 1
    several: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return "binary" if len(self.classes) == 2 else "multiclass"

    @property
    def columns(self) -> list[str]:
        return columns("classification", self.monitored) + self.extra_columns

    @property
    def monitors(self) -> list[str]:
        return columns("classification", costly("classification")) + self.extra_columns

    def configured(self, output: str, monitor: str) -> Classification:
        """Return the task for `model.output` and `monitor`."""
        return replace(
            self, output=output, monitored=tuple(set(costly("classification")) & {monitor.removeprefix("valid_")})
        )

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return the predicted class int64 [...] of outputs [..., C], or of the second class's outputs [..., 1]."""
        if outputs.shape[-1] == 1:
            return (outputs[..., 0] > (0.5 if self.output == "probabilities" else 0.0)).long()
        return outputs.argmax(-1)

    def check(self, outputs_NC: Tensor) -> None:
        """Check that outputs are what `model.output` says; values that are not finite pass.

        Raises:
            UserError: they are not probabilities, or not log-probabilities.
        """
        if self.output == "logits":
            return
        probabilities_NC = outputs_NC.double()
        probabilities_NC = probabilities_NC if self.output == "probabilities" else probabilities_NC.exp()
        sums_N = probabilities_NC.sum(-1)
        wrong_N = (sums_N - 1).abs() > TOLERANCE
        if bool(((probabilities_NC < -TOLERANCE) | (probabilities_NC > 1 + TOLERANCE)).any()):
            low, high = probabilities_NC.min().item(), probabilities_NC.max().item()
            fault = f"are between {low:.4g} and {high:.4g}; expected 0 to 1"
        elif outputs_NC.shape[-1] > 1 and bool(wrong_N.any()):
            fault = f"sum to {sums_N[wrong_N][0].item():.4g} for a sample; expected 1"
        else:
            return
        what = "exponentials of the model's outputs" if self.output == "log_probabilities" else "model's outputs"
        advice = "Train with model.output=logits and a model that does not end in a softmax or a sigmoid."
        raise UserError(Problem("model.output", f"the {what} {fault}", given=self.output, advice=advice))

    def probabilities(self, outputs_NC: Tensor) -> Tensor:
        """Return the probabilities float32 [N, classes] of outputs [N, C], or of the second class's outputs [N, 1].

        Raises:
            UserError: the outputs are not what `model.output` says.
        """
        self.check(outputs_NC)
        outputs_NC = outputs_NC.float()
        if outputs_NC.shape[1] == 1:
            positive = outputs_NC if self.output == "probabilities" else outputs_NC.sigmoid()
            return torch.cat([1 - positive, positive], dim=1)
        if self.output == "logits":
            return outputs_NC.softmax(dim=1)
        return outputs_NC.exp() if self.output == "log_probabilities" else outputs_NC

    estimates = probabilities

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Count the correct predictions among outputs [..., B, C]: [...].

        Targets are class indices [..., B], or class probabilities [..., B, C] with the largest as the true class.
        """
        if targets.is_floating_point():
            targets = targets.argmax(-1)
        return (self.predictions(outputs) == targets).sum(-1)

    def metrics(self, outputs_NC: Tensor, targets_N: Tensor) -> dict[str, float | None]:
        """Compute the metrics of a validation, without the loss.

        Raises:
            UserError: the outputs are not what `model.output` says.
        """
        self.check(outputs_NC)
        metrics: dict[str, float | None] = {"accuracy": self.correct(outputs_NC, targets_N).item() / len(targets_N)}
        if self.monitored:
            report = replace(self, extra=()).report(outputs_NC, targets_N, None)
            metrics |= {name: report.metrics[name] for name in self.monitored}
        return metrics | self.extra_metrics(self.estimates, outputs_NC, targets_N)

    def report(self, outputs_NC: Tensor, targets_N: Tensor, loss: float | None) -> SplitReport:
        """Return everything that is measured on a whole split.

        Args:
            targets_N: class indices, class probabilities [N, C] with the largest as the true class, or numbers.

        Raises:
            UserError: the outputs are not what `model.output` says.
        """
        self.check(outputs_NC)
        outputs_NC, targets_N = outputs_NC.cpu(), targets_N.cpu()
        if targets_N.ndim == 2:
            targets_N = targets_N.argmax(1)
        predicted_N, logits = self.predictions(outputs_NC), self.output == "logits"
        report = classification_report(self.classes, predicted_N, outputs_NC, targets_N, loss, logits=logits)
        return replace(report, metrics=report.metrics | self.extra_metrics(self.estimates, outputs_NC, targets_N))


Task = Classification | MultiLabel | Regression


def task_of(kind: str, classes: tuple[str, ...], targets: tuple[str, ...], values: Tensor) -> Task:
    """Return the task of a data set; a regression learns targets scaled by mean and deviation of the training ones.

    Args:
        kind: `classification`, `multilabel` or `regression`.
        classes: names of classes or labels.
        targets: names of several numbers.
        values: the training targets.
    """
    if kind == "multilabel":
        return MultiLabel(classes)
    if kind != "regression":
        return Classification(classes)
    if not targets:
        return Regression(float(values.mean()), float(values.std(correction=0)) or 1.0)
    stds = (std or 1.0 for std in values.std(0, correction=0).tolist())
    return Regression(tuple(values.mean(0).tolist()), tuple(stds), targets)
