"""The loss: which tasks and model outputs it fits, and how it takes outputs, targets and class weights."""

from __future__ import annotations

import typing
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.components.target import Target
from trainer.data.tasks import Task
from trainer.errors import Problem, UserError


@dataclass(frozen=True)
class LossSpec:
    """The tasks and kinds of `model.output` that a loss fits; `single` if it takes one output per sample."""

    name: str
    tasks: tuple[str, ...]
    single: bool
    output: tuple[str, ...]


CLASSES = ("binary", "multiclass")
LOSSES: dict[type[nn.Module], LossSpec] = {
    nn.CrossEntropyLoss: LossSpec("cross_entropy", CLASSES, False, ("logits",)),
    nn.NLLLoss: LossSpec("nll", CLASSES, False, ("log_probabilities", "probabilities")),
    nn.BCEWithLogitsLoss: LossSpec("bce_with_logits", ("binary",), True, ("logits",)),
    nn.BCELoss: LossSpec("bce", ("binary",), True, ("probabilities",)),
    nn.MSELoss: LossSpec("mse", ("binary", "regression"), True, ("logits", "probabilities")),
    nn.L1Loss: LossSpec("l1", ("binary", "regression"), True, ("logits", "probabilities")),
    nn.HuberLoss: LossSpec("huber", ("binary", "regression"), True, ("logits", "probabilities")),
}


def automatic(task: Task, output: str) -> type[nn.Module]:
    """Return the loss of `loss=auto`.

    Raises:
        UserError: a regression from a model that returns probabilities.
    """
    if task.name == "regression":
        if output != "logits":
            reason = "the task is a regression, which needs model.output=logits"
            raise UserError(Problem("model.output", reason, given=output))
        return nn.MSELoss
    if task.name == "binary" and output != "log_probabilities":
        return nn.BCELoss if output == "probabilities" else nn.BCEWithLogitsLoss
    return nn.CrossEntropyLoss if output == "logits" else nn.NLLLoss


def fitting(loss: type[nn.Module], task: Task, output: str) -> LossSpec:
    """Return how this loss is used; a user's loss is called with outputs [B, C] and targets [B].

    Raises:
        UserError: it does not fit the task or the model's output; the message names one that would.
    """
    spec = next((spec for base, spec in LOSSES.items() if issubclass(loss, base)), None)
    if spec is None:
        return LossSpec(loss.__name__, (task.name,), task.name == "regression", (output,))
    better = LOSSES[automatic(task, output)].name
    if task.name not in spec.tasks:
        has = f"{len(task.classes)} classes" if task.classes else "a number as its target"
        wants = {"binary": "two classes", "multiclass": "classes", "regression": "a number"}[spec.tasks[-1]]
        reason = f"it fits {wants}, and the data has {has}"
        raise UserError(Problem("loss", reason, given=spec.name, advice=f"Use loss={better}."))
    if output not in spec.output:
        reason = f"it needs a model that returns {' or '.join(spec.output)}, and model.output={output}"
        raise UserError(Problem("loss", reason, given=spec.name, advice=f"Use loss={better}."))
    return spec


class Criterion:
    """Mean loss of outputs [B, C] and targets [B]: class indices, class probabilities [B, C], or numbers.

    Args:
        mean, std: scale of a regression's targets, which are scaled before they are compared with the outputs.
    """

    def __init__(self, loss: nn.Module, spec: LossSpec, output: str, mean: float = 0.0, std: float = 1.0) -> None:
        self.loss, self.single, self.mean, self.std = loss, spec.single, mean, std
        self.scaled = (mean, std) != (0.0, 1.0)
        self.to_log = output == "probabilities" and isinstance(loss, nn.NLLLoss)

    @property
    def class_weights(self) -> Tensor | None:
        """The class weights [C] by which the loss averages over samples; None if it does not."""
        return self.loss.weight if isinstance(self.loss, (nn.CrossEntropyLoss, nn.NLLLoss)) else None

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.single:  # [B, 1] against [B] would broadcast silently in some losses
            targets = targets[:, 1] if targets.ndim == 2 else targets
            if self.scaled:
                targets = (targets - self.mean) / self.std
            return self._single(outputs.squeeze(-1), targets.to(outputs.dtype))
        if self.to_log:
            outputs = outputs.clamp_min(torch.finfo(outputs.dtype).tiny).log()
        return self.loss(outputs, targets.to(outputs.dtype) if targets.ndim == 2 else targets)

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


def class_weights(weight: str | list[float] | None, task: Task, targets: Tensor) -> Tensor | None:
    """Return the weights of `loss.weight`, float64 [C]; None if all are equal.

    `balanced` is samples / (classes * samples of the class), as in scikit-learn.

    Raises:
        UserError: not one positive number per class, or no classes.
    """
    if weight is None:
        return None
    if not task.classes:
        raise UserError(Problem("loss.weight", "the task is a regression; there are no classes to weight"))
    if weight == "balanced":
        counts = torch.bincount(targets, minlength=len(task.classes)).double()
        return len(targets) / (len(task.classes) * counts.clamp(min=1))
    valid = isinstance(weight, list) and all(isinstance(w, (int, float)) and w > 0 for w in weight)
    if not valid or len(weight) != len(task.classes):
        reason = f"expected balanced or {len(task.classes)} positive numbers, one for each class"
        raise UserError(Problem("loss.weight", reason, given=str(weight)))
    return torch.tensor(weight, dtype=torch.float64)


def weighted(loss: type[nn.Module], weights: Tensor) -> dict[str, Tensor]:
    """Return the keyword argument that passes class weights [C] to a loss.

    Raises:
        UserError: the loss takes no class weights.
    """
    if issubclass(loss, (nn.CrossEntropyLoss, nn.NLLLoss)):
        return {"weight": weights.float()}
    if issubclass(loss, nn.BCEWithLogitsLoss):
        return {"pos_weight": (weights[1] / weights[0]).float()}
    reason = f"{loss.__name__} takes no class weights; use cross_entropy, nll or bce_with_logits"
    raise UserError(Problem("loss.weight", reason))


def loss_class(target: Target | None, task: Task, output: str) -> type[nn.Module]:
    """Return the configured loss, or the one that `loss=auto` selects.

    Raises:
        UserError: a regression from a model that returns probabilities.
    """
    return automatic(task, output) if target is None else typing.cast(type[nn.Module], target.factory)


def num_outputs(target: Target | None, task: Task, output: str) -> int:
    """Return the number of outputs that the loss takes for each sample: one, or one per class.

    Raises:
        UserError: the loss does not fit the task or the model's output.
    """
    spec = fitting(loss_class(target, task, output), task, output)
    return 1 if spec.single else len(task.classes)


def build_criterion(
    target: Target | None, task: Task, output: str, weights: Tensor | None, targets: Tensor, dtype: torch.dtype
) -> Criterion:
    """Return the loss with its class weights [C], after a trial with `targets` of two samples on the run's device.

    Raises:
        UserError: the loss does not fit, or takes no weights.
    """
    loss_type = loss_class(target, task, output)
    spec = fitting(loss_type, task, output)
    argument = {} if weights is None else weighted(loss_type, weights)
    loss = loss_type(**argument) if target is None else target.build(**argument)
    if (reduction := getattr(loss, "reduction", "mean")) != "mean":
        reason = "expected mean; the loop sums over batches itself"
        raise UserError(Problem("loss.reduction", reason, given=reduction))
    criterion = Criterion(loss.to(targets.device, dtype), spec, output, *(task.scale or (0.0, 1.0)))
    size = 1 if spec.single else len(task.classes)
    outputs = torch.full((len(targets), size), 0.5, dtype=dtype, device=targets.device)
    try:
        shape = list(criterion(outputs, targets).shape)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = f"it does not take outputs of {list(outputs.shape)}: {error}"
        raise UserError(Problem("loss", reason, given=spec.name)) from error
    if shape:
        reason = f"it returns a tensor of shape {shape}; expected one number, the mean of the batch"
        raise UserError(Problem("loss", reason, given=spec.name))
    return criterion
