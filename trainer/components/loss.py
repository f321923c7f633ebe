"""Which loss fits which task and which kind of model output, and how outputs and targets meet in it."""

from __future__ import annotations

import typing
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.components.targets import call, resolve
from trainer.config.schema import Config
from trainer.data.dataset import Data
from trainer.data.fetch import targets_on
from trainer.data.tasks import Classification, Regression, Task
from trainer.errors import UserError


@dataclass(frozen=True)
class LossSpec:
    """What a loss is for.

    Attributes:
        name: as in `loss=`.
        tasks: names of tasks.
        single: one output per sample instead of one per class.
        output: what the model must return.
    """

    name: str
    tasks: tuple[str, ...]
    single: bool
    output: tuple[str, ...]


CLASSES = ("binary", "multiclass")
KNOWN: dict[type[nn.Module], LossSpec] = {
    nn.CrossEntropyLoss: LossSpec("cross_entropy", CLASSES, False, ("logits",)),
    nn.NLLLoss: LossSpec("nll", CLASSES, False, ("log_probabilities", "probabilities")),
    nn.BCEWithLogitsLoss: LossSpec("bce_with_logits", ("binary",), True, ("logits",)),
    nn.BCELoss: LossSpec("bce", ("binary",), True, ("probabilities",)),
    nn.MSELoss: LossSpec("mse", ("binary", "regression"), True, ("logits", "probabilities")),
    nn.L1Loss: LossSpec("l1", ("binary", "regression"), True, ("logits", "probabilities")),
    nn.HuberLoss: LossSpec("huber", ("binary", "regression"), True, ("logits", "probabilities")),
}


def automatic(task: Task, output: str) -> type[nn.Module]:
    """The loss of `loss=auto`.

    Raises:
        UserError: a regression from a model that returns probabilities.
    """
    if task.name == "regression":
        if output != "logits":
            raise UserError(f"model.output={output}: the task is a regression, which needs model.output=logits.")
        return nn.MSELoss
    if task.name == "binary" and output != "log_probabilities":
        return nn.BCELoss if output == "probabilities" else nn.BCEWithLogitsLoss
    return nn.CrossEntropyLoss if output == "logits" else nn.NLLLoss


def fitting(loss: type[nn.Module], task: Task, output: str) -> LossSpec:
    """How this loss is used; one that is not known here is a user's: called with outputs [B, C] and targets [B].

    Raises:
        UserError: it does not fit the task or the model's output; the message names one that would.
    """
    fits = next((fits for known, fits in KNOWN.items() if issubclass(loss, known)), None)
    if fits is None:
        return LossSpec(loss.__name__, (task.name,), task.name == "regression", (output,))
    better = KNOWN[automatic(task, output)].name
    if task.name not in fits.tasks:
        has = f"{len(task.classes)} classes" if task.classes else "a number as its target"
        wants = {"binary": "two classes", "regression": "a number"}.get(fits.tasks[-1], "classes")
        wants = "two classes" if fits.tasks == ("binary",) else "classes" if fits.tasks == CLASSES else wants
        raise UserError(f"loss={fits.name} fits {wants}, and the data has {has}: use loss={better}.")
    if output not in fits.output:
        raise UserError(
            f"loss={fits.name} needs a model that returns {' or '.join(fits.output)}, and model.output={output}: "
            f"use loss={better}."
        )
    return fits


class Criterion:
    """Mean loss of outputs [B, C] and targets [B]: class indices, class probabilities [B, C], or numbers.

    Args:
        mean, std: a regression's targets are scaled by them before they meet the outputs.
    """

    def __init__(self, loss: nn.Module, fits: LossSpec, output: str, mean: float = 0.0, std: float = 1.0) -> None:
        self.loss, self.single, self.mean, self.std = loss, fits.single, mean, std
        self.scaled = (mean, std) != (0.0, 1.0)
        self.to_log = output == "probabilities" and isinstance(loss, nn.NLLLoss)

    @property
    def class_weights(self) -> Tensor | None:
        """[C], where the mean is one over weighed samples."""
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
                return outputs_B.sum()  # it diverged, which the loop tells
            raise UserError(
                "loss=bce: the model's outputs are not between 0 and 1. Train with model.output=logits "
                "loss=bce_with_logits, which take a model that does not end in a sigmoid."
            ) from error


def class_weights(weight: str | list[float], task: Task, targets: Tensor) -> Tensor:
    """[C]: as given, or `balanced`: samples / (classes * samples of the class), as scikit-learn has it.

    Raises:
        UserError: not one positive number per class, or no classes.
    """
    if not isinstance(task, Classification):
        raise UserError("loss.weight: the task is a regression; there are no classes to weigh.")
    if weight == "balanced":
        counts = torch.bincount(targets, minlength=len(task.classes)).double()
        return len(targets) / (len(task.classes) * counts.clamp(min=1))
    good = isinstance(weight, list) and all(isinstance(w, (int, float)) and w > 0 for w in weight)
    if not good or len(weight) != len(task.classes):
        raise UserError(
            f"loss.weight={weight}: expected balanced or {len(task.classes)} positive numbers, one for each class."
        )
    return torch.tensor(weight, dtype=torch.float64)


def weighted(loss: type[nn.Module], weights: Tensor) -> dict[str, Tensor]:
    """The argument by which a loss takes class weights [C].

    Raises:
        UserError: it takes none.
    """
    if issubclass(loss, (nn.CrossEntropyLoss, nn.NLLLoss)):
        return {"weight": weights.float()}
    if issubclass(loss, nn.BCEWithLogitsLoss):
        return {"pos_weight": (weights[1] / weights[0]).float()}
    raise UserError(f"loss.weight: {loss.__name__} takes no class weights; use cross_entropy, nll or bce_with_logits.")


def loss_class(config: Config, task: Task) -> type[nn.Module]:
    """The loss that is named, or the one that `loss=auto` stands for."""
    if config.loss.target is None:
        return automatic(task, config.model.output)
    return typing.cast(type[nn.Module], resolve(config.loss.target, "loss"))


def num_outputs(config: Config, task: Task) -> int:
    """One, or one per class, as the loss wants it.

    Raises:
        UserError: where the loss does not fit the task or the model's output.
    """
    fits = fitting(loss_class(config, task), task, config.model.output)
    return 1 if fits.single else len(task.classes)


def loss_weights(config: Config, data: Data) -> Tensor | None:
    """[classes], the weight of each class in the loss; None where all are alike.

    Raises:
        UserError: not one positive number per class, or no classes.
    """
    weight = "balanced" if config.data.balance == "loss" else config.loss.weight
    return None if weight is None else class_weights(weight, data.task, data.splits["train"].targets)


def build_criterion(config: Config, data: Data, device: torch.device) -> Criterion:
    """The loss with its class weights, fed as the task wants it.

    Raises:
        UserError: where it does not fit, or takes no weights.
    """
    first = data.splits["train"].loss_targets[:2]
    return build_criterion_for(config, data.task, device, loss_weights(config, data), first)


def build_criterion_for(
    config: Config, task: Task, device: torch.device, weights: Tensor | None, targets: Tensor
) -> Criterion:
    """As `criterion`, where the training samples are not at hand.

    Args:
        weights: of the classes.
        targets: of two samples, to try it with.
    """
    chosen = loss_class(config, task)
    fits = fitting(chosen, task, config.model.output)
    given = {} if weights is None else weighted(chosen, weights)
    if config.loss.target is None:
        loss = chosen(**given, **config.loss.arguments)
    else:
        loss = call("loss", config.loss, **given)
    if getattr(loss, "reduction", "mean") != "mean":
        raise UserError(f"loss.reduction={loss.reduction}: expected mean; sums over batches are kept by the loop.")
    scale = (task.mean, task.std) if isinstance(task, Regression) else (0.0, 1.0)
    dtype = torch.float64 if config.precision == "float64" else torch.float32
    made = Criterion(loss.to(device, dtype), fits, config.model.output, *scale)
    outputs = torch.full((len(targets), 1 if fits.single else len(task.classes)), 0.5, dtype=dtype, device=device)
    _try_loss(made, fits, outputs, targets_on(targets, device))
    return made


def _try_loss(made: Criterion, fits: LossSpec, outputs: Tensor, targets: Tensor) -> None:
    """One loss of two samples: is it a number?"""
    try:
        found = list(made(outputs, targets).shape)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise UserError(f"loss={fits.name}: it does not take outputs of {list(outputs.shape)}: {error}.") from error
    if found:
        raise UserError(f"loss={fits.name}: it gives a tensor of {found}; expected one number, the mean of the batch.")
