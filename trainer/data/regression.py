"""Prediction of one or several numbers for each sample. Shape letters: N samples of a split, K targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainer.data.extra_metrics import WithExtraMetrics
from trainer.data.metrics import SplitReport, TargetReport, columns

Scale = tuple[float | tuple[float, ...], float | tuple[float, ...]]  # mean and standard deviation, of each target


@dataclass(frozen=True)
class Regression(WithExtraMetrics):
    """Prediction of numbers, which the model learns scaled; metrics are in their own units. See Classification.

    With several targets, each metric of a split is the mean over the targets, as in scikit-learn, each in its own
    unit; a report has those of each target too.

    Attributes:
        mean, std: of the training targets; [K] of several.
        targets: the names of several targets; empty for a single one, whose values are [N] instead of [N, K].
    """

    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]
    targets: tuple[str, ...] = ()

    name: ClassVar = "regression"
    classes: ClassVar[tuple[str, ...]] = ()
    monitored: ClassVar[tuple[str, ...]] = ()
    output: ClassVar = "logits"
    counted: ClassVar[str | None] = None

    @property
    def scale(self) -> Scale:
        return self.mean, self.std

    @property
    def several(self) -> bool:
        return bool(self.targets)

    @property
    def answers(self) -> int:
        return max(1, len(self.targets))

    @property
    def columns(self) -> list[str]:
        return columns("regression") + self.extra_columns

    @property
    def monitors(self) -> list[str]:
        return self.columns

    def configured(self, output: str, monitor: str) -> Regression:
        return self

    def correct(self, outputs: Tensor, targets: Tensor) -> None:
        return None

    def values(self, outputs: Tensor) -> Tensor:
        """Return outputs [N, 1] or [N, K] in the targets' units, float64 [N] or [N, K]."""
        if isinstance(self.mean, float) and isinstance(self.std, float):
            return outputs[:, 0].double() * self.std + self.mean
        mean_K, std_K = torch.tensor(self.scale, dtype=torch.float64, device=outputs.device)
        return outputs.double() * std_K + mean_K

    def estimates(self, outputs: Tensor) -> Tensor:
        """Return outputs [N, 1] or [N, K] in the targets' units, float64 of the same shape."""
        values = self.values(outputs)
        return values if self.several else values[:, None]

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float | None]:
        """Compute MAE, RMSE and R2; R2 is None if the targets do not vary, which is left out of the mean of several."""
        extra = self.extra_metrics(self.estimates, outputs, targets)
        if not self.several:
            return _metrics(self.values(outputs.cpu()), targets.cpu().double()) | extra
        return _means([vars(report) for report in self._per_target(outputs, targets)]) | extra

    def _per_target(self, outputs: Tensor, targets: Tensor) -> list[TargetReport]:
        columns_KN = zip(self.targets, self.values(outputs.cpu()).T, targets.cpu().double().T, strict=True)
        return [TargetReport(name, **_metrics(values_N, targets_N)) for name, values_N, targets_N in columns_KN]

    def report(self, outputs: Tensor, targets: Tensor, loss: float | None) -> SplitReport:
        per_target = self._per_target(outputs, targets) if self.several else []
        return SplitReport({"loss": loss, **self.metrics(outputs, targets)}, per_target=per_target)


def _metrics(values_N: Tensor, targets_N: Tensor) -> dict[str, float | None]:
    errors = values_N - targets_N
    spread = (targets_N - targets_N.mean()).square().sum()
    return {
        "mae": errors.abs().mean().item(),
        "rmse": errors.square().mean().sqrt().item(),
        "r2": (1 - errors.square().sum() / spread).item() if spread > 0 else None,
    }


def _means(each: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Return the mean of each metric over the targets that define it."""
    means: dict[str, float | None] = {}
    for name in ("mae", "rmse", "r2"):
        values = [value for metrics in each if (value := metrics[name]) is not None]
        means[name] = sum(values) / len(values) if values else None
    return means
