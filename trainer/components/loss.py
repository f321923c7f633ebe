"""The loss: which tasks and model outputs it fits, and how it takes outputs, targets and class weights."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainer.components.target import Target
from trainer.data.multilabel import MultiLabel
from trainer.data.regression import Scale
from trainer.data.tasks import Task
from trainer.device import exact_dtype
from trainer.errors import Problem, UserError


@dataclass(frozen=True)
class LossSpec:
    """The tasks and kinds of `model.output` that a loss fits; `single` if it compares each output with a number."""

    name: str
    tasks: tuple[str, ...]
    single: bool
    output: tuple[str, ...]


CLASSES = ("binary", "multiclass")
LOSSES: dict[type[nn.Module], LossSpec] = {
    nn.CrossEntropyLoss: LossSpec("cross_entropy", CLASSES, False, ("logits",)),
    nn.NLLLoss: LossSpec("nll", CLASSES, False, ("log_probabilities", "probabilities")),
    nn.BCEWithLogitsLoss: LossSpec("bce_with_logits", ("multilabel", "binary"), True, ("logits",)),
    nn.BCELoss: LossSpec("bce", ("multilabel", "binary"), True, ("probabilities",)),
    nn.MSELoss: LossSpec("mse", ("binary", "regression"), True, ("logits", "probabilities")),
    nn.L1Loss: LossSpec("l1", ("binary", "regression"), True, ("logits", "probabilities")),
    nn.HuberLoss: LossSpec("huber", ("binary", "regression"), True, ("logits", "probabilities")),
}


def automatic(task: Task, output: str) -> type[nn.Module]:
    """Return the loss of `loss=auto`.

    Raises:
        UserError: a regression needs logits, and labels need logits or probabilities.
    """
    if task.name == "regression":
        if output != "logits":
            reason = "the task is a regression, which needs model.output=logits"
            raise UserError(Problem("model.output", reason, given=output))
        return nn.MSELoss
    if task.name == "multilabel" and output == "log_probabilities":
        reason = "the task is multilabel, which needs model.output=logits or probabilities"
        raise UserError(Problem("model.output", reason, given=output))
    if task.name in ("binary", "multilabel") and output != "log_probabilities":
        return nn.BCELoss if output == "probabilities" else nn.BCEWithLogitsLoss
    return nn.CrossEntropyLoss if output == "logits" else nn.NLLLoss


def fitting(loss: type[nn.Module], task: Task, output: str) -> LossSpec:
    """Return how this loss is used; a user's loss is called with outputs [B, C] and targets [B], or both [B, K].

    Raises:
        UserError: it does not fit the task or the model's output; the message names one that would.
    """
    spec = next((spec for base, spec in LOSSES.items() if issubclass(loss, base)), None)
    if spec is None:
        return LossSpec(loss.__name__, (task.name,), task.name in ("regression", "multilabel"), (output,))
    better = LOSSES[automatic(task, output)].name
    if task.name not in spec.tasks:
        what = "labels" if task.name == "multilabel" else "classes"
        has = f"{len(task.classes)} {what}" if task.classes else "a number as its target"
        has = f"{task.answers} numbers as its targets" if task.several and not task.classes else has
        wants = {"binary": "two classes", "multiclass": "classes", "regression": "a number"}[spec.tasks[-1]]
        reason = f"it fits {wants}, and the data has {has}"
        raise UserError(Problem("loss", reason, given=spec.name, advice=f"Use loss={better}."))
    if output not in spec.output:
        reason = f"it needs a model that returns {' or '.join(spec.output)}, and model.output={output}"
        raise UserError(Problem("loss", reason, given=spec.name, advice=f"Use loss={better}."))
    return spec


class Criterion:
    """Mean loss of outputs [B, C] and targets [B]: class indices, class probabilities [B, C], or numbers.

    Class weights make it a weighted mean: each sample counts by the weight of its class, and the sum is divided by the
    sum of these weights. A loss of one output per sample has no such argument and is averaged here.

    Several numbers or labels are targets [B, K] for outputs [B, K], and the loss is the mean over them, too.

    Args:
        scale: mean and deviation of a regression's targets, which are scaled before they are compared with the outputs.
        weights: class weights [C], which a loss of one output per class already holds; None if all are equal.
        several: whether the targets are numbers or labels [B, K].
    """

    def __init__(
        self,
        loss: nn.Module,
        spec: LossSpec,
        output: str,
        scale: Scale = (0.0, 1.0),
        weights: Tensor | None = None,
        *,
        several: bool = False,
    ) -> None:
        self.loss, self.single, self.weights, self.several = loss, spec.single, weights, several
        self.scale, self.scaled = scale, scale != (0.0, 1.0)
        self.mean: Any
        self.std: Any
        self.mean, self.std = torch.tensor(scale, dtype=torch.float64) if several else scale
        self.to_log = output == "probabilities" and isinstance(loss, nn.NLLLoss)
        if self.single and weights is not None:
            typing.cast(Any, loss).reduction = "none"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.several:
            return self._single(outputs, self.scaled_targets(targets).to(outputs.dtype))
        if self.single:  # [B, 1] against [B] would broadcast silently in some losses
            targets = targets[:, 1] if targets.ndim == 2 else targets
            outputs, targets = outputs.squeeze(-1), self.scaled_targets(targets).to(outputs.dtype)
            return self._single(outputs, targets) if self.weights is None else self._weighted(outputs, targets)
        if self.to_log:
            outputs = outputs.clamp_min(torch.finfo(outputs.dtype).tiny).log()
        return self.loss(outputs, targets.to(outputs.dtype) if targets.ndim == 2 else targets)

    def denominator(self, targets: Tensor) -> Tensor | int:
        """Return the number that the mean loss of these targets was divided by.

        It is the sum of class weights [], or the number of samples without class weights. torch divides by the number
        of samples, too, if targets are class probabilities [B, C] for a loss of one output per class.
        """
        if self.weights is None or (targets.ndim == 2 and not self.single):
            return len(targets)
        return (targets.to(self.weights.dtype) @ self.weights if targets.ndim == 2 else self.weights[targets]).sum()

    def to(self, device: torch.device) -> Criterion:
        """Move what several targets are scaled by to a device; return the criterion itself."""
        if self.several:
            self.mean, self.std = torch.tensor(self.scale, dtype=exact_dtype(device), device=device)
        return self

    def scaled_targets(self, targets: Tensor) -> Tensor:
        """Return the targets [B] or [B, K] as the model learns them."""
        return (targets - self.mean) / self.std if self.scaled else targets

    def _weighted(self, outputs_B: Tensor, targets_B: Tensor) -> Tensor:
        """Return the weighted mean loss; a target of 0.3 counts as 0.3 samples of class 1 and 0.7 of class 0."""
        assert self.weights is not None
        positive_B, negative_B = self.weights[1] * targets_B, self.weights[0] * (1 - targets_B)
        weights_B = positive_B + negative_B
        return (weights_B * self._single(outputs_B, positive_B / weights_B)).sum() / weights_B.sum()

    def _single(self, outputs_B: Tensor, targets_B: Tensor) -> Tensor:
        try:
            return self.loss(outputs_B, targets_B)
        except RuntimeError as error:
            if not isinstance(self.loss, nn.BCELoss) or "between 0 and 1" not in str(error):
                raise
            if outputs_B.isnan().any():
                return outputs_B.sum()  # it diverged, which the loop reports
            reason = "the model's outputs are not between 0 and 1"
            advice = "Train with model.output=logits loss=bce_with_logits and a model without a sigmoid at its end."
            raise UserError(Problem("loss", reason, given="bce", advice=advice)) from error


def loss_class(target: Target | None, task: Task, output: str) -> type[nn.Module]:
    """Return the configured loss, or the one that `loss=auto` selects.

    Raises:
        UserError: the task needs a model that returns something else.
    """
    return automatic(task, output) if target is None else typing.cast(type[nn.Module], target.factory)


def num_outputs(target: Target | None, task: Task, output: str) -> int:
    """Return the number of outputs that the loss takes for each sample: one per class, or one per number or label.

    Raises:
        UserError: the loss does not fit the task or the model's output.
    """
    return _size(fitting(loss_class(target, task, output), task, output), task)


def _size(spec: LossSpec, task: Task) -> int:
    return task.answers if spec.single else len(task.classes)


def _weight_argument(loss_type: type[nn.Module], single: bool, task: Task, weights: Tensor | None) -> dict[str, Tensor]:
    """Return the argument of a loss that takes the weights [C] itself.

    Raises:
        UserError: it takes none.
    """
    if weights is None:
        return {}
    takes = nn.BCEWithLogitsLoss if isinstance(task, MultiLabel) else tuple(LOSSES)
    if not issubclass(loss_type, takes):
        what = "label" if isinstance(task, MultiLabel) else "class"
        raise UserError(Problem("loss.weight", f"{loss_type.__name__} takes no {what} weights"))
    if isinstance(task, MultiLabel):
        return {"pos_weight": weights}
    return {} if single else {"weight": weights}


def build_criterion(
    target: Target | None, task: Task, output: str, weights: Tensor | None, targets: Tensor, dtype: torch.dtype
) -> Criterion:
    """Return the loss with its class weights [C], after a trial with `targets` of two samples on the run's device.

    Raises:
        UserError: the loss does not fit, or takes no weights.
    """
    loss_type = loss_class(target, task, output)
    spec = fitting(loss_type, task, output)
    weights = None if weights is None else weights.to(dtype).to(targets.device)
    argument = _weight_argument(loss_type, spec.single, task, weights)
    loss = loss_type(**argument) if target is None else target.build(**argument)
    if (reduction := getattr(loss, "reduction", "mean")) != "mean":
        reason = "expected mean; the loop sums over batches itself"
        raise UserError(Problem("loss.reduction", reason, given=reduction))
    loss = loss.to(targets.device, dtype)
    if task.several:  # a weighted label has no part in the denominator of the mean
        criterion = Criterion(loss, spec, output, task.scale or (0.0, 1.0), several=True).to(targets.device)
    else:
        criterion = Criterion(loss, spec, output, task.scale or (0.0, 1.0), weights)
    outputs = torch.full((len(targets), _size(spec, task)), 0.5, dtype=dtype, device=targets.device)
    try:
        shape = list(criterion(outputs, targets).shape)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = f"it does not take outputs of {list(outputs.shape)}: {error}"
        raise UserError(Problem("loss", reason, given=spec.name)) from error
    if spec.single and criterion.weights is not None and not loss(outputs[:, 0], outputs[:, 0]).ndim:
        reason = f"{loss_type.__name__} takes no class weights"  # a subclass that averages by itself
        raise UserError(Problem("loss.weight", reason))
    if shape:
        reason = f"it returns a tensor of shape {shape}; expected one number, the mean of the batch"
        raise UserError(Problem("loss", reason, given=spec.name))
    return criterion
