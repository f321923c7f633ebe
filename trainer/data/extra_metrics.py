"""Metrics that a configuration adds to those of its task. Shape letters: N samples of a split, C classes, K targets."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from trainer.errors import Problem, UserError

Inputs = Literal["positive", "classes", "labels", "numbers"]


@dataclass(frozen=True)
class ExtraMetric:
    """A metric of torchmetrics, or another module that is called with predictions and targets.

    Attributes:
        name: its key in results.json; `valid_<name>` is its column of metrics.csv.
        module: the metric. It is called once for a split, with all samples, on the CPU.
        inputs: what it is called with. "positive": the probability of the second of two classes [N], and 0 or 1 [N];
            "classes": probabilities [N, C] and class indices [N]; "labels": probabilities [N, K] and 0 or 1 [N, K];
            "numbers": values and targets [N] in float64, of several targets one after the other.
    """

    name: str
    module: nn.Module
    inputs: Inputs

    def __call__(self, estimates: Tensor, targets: Tensor) -> float | None:
        """Return the value; None where these samples do not define one. The mean of several targets.

        Args:
            estimates: probabilities [N, C], or values [N, K] in the targets' units.
            targets: class indices [N] or probabilities [N, C]; labels [N, K]; or numbers, [N] or [N, K].

        Raises:
            UserError: the metric refuses the samples, or does not return one number.
        """
        if self.inputs == "numbers":
            columns = targets.double().reshape(len(targets), -1)
            pairs = zip(estimates.double().T, columns.T, strict=True)
            values = [self._value(predicted.contiguous(), true.contiguous()) for predicted, true in pairs]
            defined = [value for value in values if value is not None]
            return sum(defined) / len(defined) if defined else None
        if self.inputs == "labels":
            return self._value(estimates, (targets > 0.5).long())
        classes_N = targets.argmax(1) if targets.ndim == 2 else targets
        return self._value(estimates[:, 1] if self.inputs == "positive" else estimates, classes_N)

    def _value(self, predicted: Tensor, targets: Tensor) -> float | None:
        key = f"metric.{self.name}"
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # of classes without samples: the value says it
                value = self._computed(predicted, targets)
        except (ValueError, RuntimeError, TypeError, IndexError, NotImplementedError) as error:
            reason = f"it cannot be computed for {len(targets)} samples: {' '.join(str(error).split()).rstrip('.')}"
            raise UserError(Problem(key, reason)) from error
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            shape = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise UserError(Problem(key, f"it returns {shape}; expected one number"))
        return float(value) if math.isfinite(value) else None

    def _computed(self, predicted: Tensor, targets: Tensor) -> object:
        if not hasattr(self.module, "compute"):
            return self.module(predicted, targets)
        try:
            self.module.update(predicted, targets)  # type: ignore[operator]
            return self.module.compute()  # type: ignore[operator]
        finally:
            self.module.reset()  # type: ignore[operator]


@dataclass(frozen=True)
class WithExtraMetrics:
    """Base class of tasks, whose metrics a configuration may extend.

    Attributes:
        extra: the metrics that are computed beside those of the task, at validations and in tests.
    """

    extra: tuple[ExtraMetric, ...] = field(default=(), kw_only=True, compare=False)

    @property
    def extra_columns(self) -> list[str]:
        """The columns of metrics.csv of these metrics."""
        return [f"valid_{metric.name}" for metric in self.extra]

    def extra_metrics(
        self, estimates: Callable[[Tensor], Tensor], outputs: Tensor, targets: Tensor
    ) -> dict[str, float | None]:
        """Compute these metrics over a whole split.

        Args:
            estimates: maps outputs to the probabilities [N, C] or values [N, K] that they stand for.
            outputs: of the model.
            targets: see ExtraMetric.

        Raises:
            UserError: a metric refuses the samples, or does not return one number.
        """
        if not self.extra:
            return {}
        predicted, true = estimates(outputs).cpu(), targets.cpu()
        return {metric.name: metric(predicted, true) for metric in self.extra}
