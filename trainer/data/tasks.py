"""What a data set asks for: two classes, several classes, or a number; and the figures that say how well it was done.

Shape letters: R runs (absent where one run trains alone), B samples of a batch, N samples of a split, C outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.data.metrics import TOP_K, ClassReport, SplitReport, columns, costly
from trainer.errors import UserError

INEXACT = 0.02  # of a sum of probabilities in 16 bits


@dataclass(frozen=True)
class Classification:
    """Classes by index.

    Attributes:
        classes: names in label order; two make the task binary, with class 1 as the positive one.
        extra: costly metrics that are computed at every validation because one of them is monitored.
        output: what the model returns: logits, probabilities or log_probabilities.
    """

    classes: tuple[str, ...]
    extra: tuple[str, ...] = ()
    output: str = "logits"

    EXTRAS = tuple(costly("classification"))

    @property
    def name(self) -> str:
        return "binary" if len(self.classes) == 2 else "multiclass"

    @property
    def columns(self) -> list[str]:
        """Columns of metrics.csv between learning rate and seconds."""
        return columns("classification", self.extra)

    def predictions(self, outputs: Tensor) -> Tensor:
        """Class index [...] of outputs [..., C]; with one output, 1 where the probability is above 0.5."""
        if outputs.shape[-1] == 1:
            return (outputs[..., 0] > (0.5 if self.output == "probabilities" else 0.0)).long()
        return outputs.argmax(-1)

    def check(self, outputs_NC: Tensor) -> None:
        """Whether outputs are what `model.output` says; what is not finite is judged elsewhere.

        Raises:
            UserError: they are no probabilities, or no log-probabilities.
        """
        if self.output == "logits":
            return
        chances_NC = outputs_NC.double()
        chances_NC = chances_NC if self.output == "probabilities" else chances_NC.exp()
        if bool(((chances_NC < -INEXACT) | (chances_NC > 1 + INEXACT)).any()):
            low, high = chances_NC.min().item(), chances_NC.max().item()
            found = f"are between {low:.4g} and {high:.4g}, where 0 to 1 is possible"
        elif outputs_NC.shape[-1] > 1 and bool((odd := ((sums_N := chances_NC.sum(-1)) - 1).abs() > INEXACT).any()):
            first = sums_N[odd][0].item()
            found = f"sum to {first:.4g} for a sample, where 1 is expected"
        else:
            return
        what = "exponentials of the model's outputs" if self.output == "log_probabilities" else "model's outputs"
        raise UserError(
            f"model.output={self.output}: the {what} {found}. Train with model.output=logits, which a model returns "
            "that does not end in a softmax or a sigmoid."
        )

    def probabilities(self, outputs_NC: Tensor) -> Tensor:
        """[N, classes]; one output gives both classes.

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

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Right answers among outputs [..., B, C] and class indices [..., B]: a count of shape [...].

        Of mixed samples, with class probabilities [..., B, C], the likeliest class is the right one.
        """
        if targets.is_floating_point():
            targets = targets.argmax(-1)
        return (self.predictions(outputs) == targets).sum(-1)

    def figures(self, outputs_NC: Tensor, targets_N: Tensor) -> dict[str, float | None]:
        """Of a whole split, loss left out.

        Raises:
            UserError: the outputs are not what `model.output` says.
        """
        self.check(outputs_NC)
        metrics: dict[str, float | None] = {"accuracy": self.correct(outputs_NC, targets_N).item() / len(targets_N)}
        if self.extra:
            report = self.report(outputs_NC, targets_N, 0.0)
            metrics |= {name: report.metrics[name] for name in self.extra}
        return metrics

    def report(self, outputs_NC: Tensor, targets_N: Tensor, loss: float | None) -> SplitReport:
        """Return everything that is measured on a whole split.

        `precision`, `recall` and `f1` are means over the classes that have samples; so is `auroc`, one against rest.

        Args:
            outputs_NC: [N, C], or [N, 1] for two classes.
            targets_N: class indices [N], or class probabilities [N, C], of which the likeliest class is the right one.
            loss: taken into the report as it is.

        Raises:
            UserError: the outputs are not what `model.output` says.
        """
        self.check(outputs_NC)
        from torchmetrics.functional import classification as tm

        num_classes = len(self.classes)
        outputs_NC, targets_N = outputs_NC.cpu(), targets_N.cpu()
        if targets_N.ndim == 2:
            targets_N = targets_N.argmax(1)
        predicted_N = self.predictions(outputs_NC)
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
        metrics["auroc"] = self._auroc(outputs_NC, targets_N) if bool(present.all()) else None
        classes = [
            ClassReport(
                name,
                correct[i],
                totals[i],
                correct[i] / totals[i] if totals[i] else None,
                **{metric: values[i].item() if totals[i] else None for metric, values in per_class.items()},
            )
            for i, name in enumerate(self.classes)
        ]
        return SplitReport(metrics, 0.5 if num_classes == 2 else None, classes, confusion.tolist())

    def _auroc(self, outputs_NC: Tensor, targets_N: Tensor) -> float:
        """Of ranks: probabilities of a confident model saturate, and what differed becomes a tie."""
        from torchmetrics.functional import classification as tm

        scores_NC = outputs_NC.double()
        if len(self.classes) == 2:
            score_N = scores_NC[:, 0] if scores_NC.shape[1] == 1 else scores_NC[:, 1] - scores_NC[:, 0]
            return tm.binary_auroc(_ranks(score_N), targets_N).item()
        if self.output == "logits":
            scores_NC = scores_NC.log_softmax(dim=1)
        ranks_NC = torch.stack([_ranks(column) for column in scores_NC.T], dim=1)
        present = targets_N.unique()
        each = [tm.binary_auroc(ranks_NC[:, c], (targets_N == c).long()) for c in present.tolist()]
        return torch.stack(each).double().mean().item()


def _ranks(scores: Tensor) -> Tensor:
    """Scores [N] in the same order between 0 and 1, ties kept."""
    distinct, rank = scores.unique(return_inverse=True)
    return rank.double() / max(len(distinct) - 1, 1)


@dataclass(frozen=True)
class Regression:
    """A number per sample; the model learns it scaled, the figures are in its own unit.

    Attributes:
        mean, std: of the training part's targets.
    """

    mean: float
    std: float
    classes: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    output: str = "logits"

    EXTRAS = tuple(costly("regression"))
    name = "regression"

    @property
    def columns(self) -> list[str]:
        """Columns of metrics.csv between learning rate and seconds."""
        return columns("regression")

    def correct(self, outputs: Tensor, targets: Tensor) -> None:
        """No answer is right or wrong here."""

    def values(self, outputs_NC: Tensor) -> Tensor:
        """Outputs [N, 1] in the target's unit, [N]."""
        return outputs_NC[:, 0].double() * self.std + self.mean

    def figures(self, outputs_NC: Tensor, targets_N: Tensor) -> dict[str, float | None]:
        """Mean absolute and root mean squared error in the target's unit; R2, null where the targets do not vary."""
        errors = self.values(outputs_NC.cpu()) - targets_N.cpu().double()
        spread = (targets_N.cpu().double() - targets_N.cpu().double().mean()).square().sum()
        return {
            "mae": errors.abs().mean().item(),
            "rmse": errors.square().mean().sqrt().item(),
            "r2": (1 - errors.square().sum() / spread).item() if spread > 0 else None,
        }

    def report(self, outputs_NC: Tensor, targets_N: Tensor, loss: float | None) -> SplitReport:
        """Return everything that is measured on a whole split, for outputs [N, 1] and targets [N].

        Args:
            loss: taken into the report as it is.
        """
        return SplitReport({"loss": loss, **self.figures(outputs_NC, targets_N)})


Task = Classification | Regression
