"""Prediction of several labels for each sample. Shape letters: N samples of a split, B of a batch, L labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from trainer.data.classification import ranks
from trainer.data.extra_metrics import WithExtraMetrics
from trainer.data.metrics import LabelReport, SplitReport, columns, costly
from trainer.errors import Problem, UserError

TOLERANCE = 0.02  # of a probability in 16 bits
LABEL_SEPARATOR = ";"  # between the labels of a sample in the files that are written
THRESHOLD = 0.5  # probability above which a label is predicted


@dataclass(frozen=True)
class MultiLabel(WithExtraMetrics):
    """Prediction of labels; a sample may have any number of them. See Classification for the attributes.

    The metrics `precision`, `recall`, `f1`, `auroc` and `mean_average_precision` are means over the labels that have
    samples (macro averages); `micro_f1` counts all labels of all samples together.
    """

    classes: tuple[str, ...]
    monitored: tuple[str, ...] = ()
    output: str = "logits"

    name: ClassVar = "multilabel"
    scale: ClassVar = None
    counted: ClassVar[str | None] = "label_accuracy"
    several: ClassVar = True

    @property
    def answers(self) -> int:
        return len(self.classes)

    @property
    def columns(self) -> list[str]:
        return columns("multilabel", self.monitored) + self.extra_columns

    @property
    def monitors(self) -> list[str]:
        return columns("multilabel", costly("multilabel")) + self.extra_columns

    def configured(self, output: str, monitor: str) -> MultiLabel:
        """Return the task for `model.output` and `monitor`."""
        return replace(
            self, output=output, monitored=tuple(set(costly("multilabel")) & {monitor.removeprefix("valid_")})
        )

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return whether each label is predicted, bool [..., L], for outputs [..., L]."""
        return outputs > (THRESHOLD if self.output == "probabilities" else 0.0)

    def check(self, outputs_NL: Tensor) -> None:
        """Check that outputs are what `model.output` says; values that are not finite pass.

        Raises:
            UserError: they are not probabilities.
        """
        wrong_NL = (outputs_NL < -TOLERANCE) | (outputs_NL > 1 + TOLERANCE)
        if self.output == "probabilities" and bool(wrong_NL.any()):
            low, high = outputs_NL.min().item(), outputs_NL.max().item()
            reason = f"the model's outputs are between {low:.4g} and {high:.4g}; expected 0 to 1"
            advice = "Train with model.output=logits and a model that does not end in a sigmoid."
            raise UserError(Problem("model.output", reason, given=self.output, advice=advice))

    def probabilities(self, outputs_NL: Tensor) -> Tensor:
        """Return the probability of each label, float32 [N, L].

        Raises:
            UserError: the outputs are not what `model.output` says.
        """
        self.check(outputs_NL)
        return outputs_NL.float() if self.output == "probabilities" else outputs_NL.float().sigmoid()

    estimates = probabilities

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Count the correct answers, one for each label, among outputs [..., B, L]: [...].

        Targets are 0 or 1, or probabilities, of which those above 0.5 count as present.
        """
        return (self.predictions(outputs) == (targets > THRESHOLD)).sum((-2, -1))

    def metrics(self, outputs_NL: Tensor, targets_NL: Tensor) -> dict[str, float | None]:
        """Compute the metrics of a validation, without the loss.

        Raises:
            UserError: the outputs are not what `model.output` says.
        """
        self.check(outputs_NL)
        predicted_NL, present_NL = self.predictions(outputs_NL), targets_NL > THRESHOLD
        right_NL = predicted_NL == present_NL
        hits, claims = int((predicted_NL & present_NL).sum()), int(predicted_NL.sum()) + int(present_NL.sum())
        metrics: dict[str, float | None] = {
            "label_accuracy": right_NL.sum().item() / right_NL.numel(),
            "exact_match": right_NL.all(1).sum().item() / len(right_NL),
            "micro_f1": 2 * hits / claims if claims else None,
        }
        if self.monitored:
            report = replace(self, extra=()).report(outputs_NL, targets_NL, None)
            metrics |= {name: report.metrics[name] for name in self.monitored}
        return metrics | self.extra_metrics(self.estimates, outputs_NL, targets_NL)

    def report(self, outputs_NL: Tensor, targets_NL: Tensor, loss: float | None) -> SplitReport:
        """Return everything that is measured on a whole split.

        Raises:
            UserError: the outputs are not what `model.output` says.
        """
        outputs_NL, present_NL = outputs_NL.cpu(), (targets_NL > THRESHOLD).cpu()
        metrics = replace(self, monitored=()).metrics(outputs_NL, present_NL)
        columns_LN = zip(self.classes, outputs_NL.T, self.predictions(outputs_NL).T, present_NL.T, strict=True)
        reports = [_label_report(*column) for column in columns_LN]
        means = {
            name: _mean([getattr(report, name) for report in reports])
            for name in ("precision", "recall", "f1", "auroc", "average_precision")
        }
        means["mean_average_precision"] = means.pop("average_precision")
        return SplitReport({"loss": loss, **metrics, **means}, THRESHOLD, per_label=reports)


def _label_report(name: str, outputs_N: Tensor, predicted_N: Tensor, present_N: Tensor) -> LabelReport:
    from torchmetrics.functional import classification as tm

    positives, total = int(present_N.sum()), len(present_N)
    accuracy = (predicted_N == present_N).sum().item() / total
    if not positives:
        return LabelReport(name, 0, total, accuracy, None, None, None, None, None)
    answers = (predicted_N.long(), present_N.long())
    precision, recall, f1 = (
        score(*answers).item() for score in (tm.binary_precision, tm.binary_recall, tm.binary_f1_score)
    )
    scores_N, truth_N = ranks(outputs_N.double()), answers[1]
    auroc = tm.binary_auroc(scores_N, truth_N).item() if positives < total else None
    average_precision = tm.binary_average_precision(scores_N, truth_N).item()
    return LabelReport(name, positives, total, accuracy, precision, recall, f1, auroc, average_precision)


def _mean(values: list[float | None]) -> float | None:
    """Return the mean of the values that are defined; None if none is."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
