"""Attributions by Captum: Grad-CAM and integrated gradients.

Shape letters: B samples, C outputs, H and W the height and width of a model's input, F features, K columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.data.regression import Regression
from trainer.data.tables.prepare import TablePrepare
from trainer.data.tasks import Classification
from trainer.errors import Problem, UserError
from trainer.inference.predictor import Predictor
from trainer.training.forward import forward

EXTRA = "pip install 'trainer-cli[explain]'"
GRAD_CAM, INTEGRATED_GRADIENTS = "grad_cam", "integrated_gradients"
STEPS = 64  # of the integral; Captum's own number is 50


def require_captum() -> Any:
    """Return the module `captum.attr`.

    Raises:
        UserError: the extra `explain` is not installed.
    """
    try:
        from captum import attr
    except ImportError as error:
        reason = f"{error.name} is not installed"
        raise UserError(Problem("trainer explain", reason, command=EXTRA)) from error
    return attr


class Scores(nn.Module):
    """What is explained: a score [B, C] of each class or label before the softmax, or values in the targets' units.

    A single output, the score of the second class, becomes one of each class.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.model, self.predictor = predictor.model, predictor

    def forward(self, inputs: Tensor) -> Tensor:
        predictor = self.predictor
        outputs = forward(self.model, inputs, predictor.device, predictor.forward.precision)[0]
        task = predictor.task
        if isinstance(task, Regression):
            return task.estimates(outputs)
        if isinstance(task, Classification) and outputs.shape[1] == 1:
            opposite = 1 - outputs if task.output == "probabilities" else -outputs
            return torch.cat([opposite, outputs], dim=1)
        return outputs


class Attributor:
    """Attributions of a model's predictions, by one method.

    Args:
        predictor: the model.
        method: grad_cam or integrated_gradients; None for the former if the model has a convolution to look at.

    Attributes:
        predictor: the model.
        method: the method that is used.
        note: why it is not Grad-CAM although no method was chosen; may be empty.

    Raises:
        UserError: Captum is not installed, or there is no convolution for Grad-CAM.
    """

    def __init__(self, predictor: Predictor, method: str | None = None) -> None:
        self._captum, self.predictor, self._scores = require_captum(), predictor, Scores(predictor)
        self._layer, reason = (None, "") if method == INTEGRATED_GRADIENTS else last_convolution(predictor)
        if method == GRAD_CAM and self._layer is None:
            advice = f"Use --method {INTEGRATED_GRADIENTS}."
            raise UserError(Problem(f"--method {GRAD_CAM}", reason, advice=advice, source=predictor.checkpoint.name))
        self.method = INTEGRATED_GRADIENTS if self._layer is None else GRAD_CAM
        self.note = reason if method is None and predictor.takes_images else ""

    def pixels(self, raw: Tensor, targets_B: Tensor) -> Tensor:
        """Return how much each pixel speaks for these outputs, or against them: float32 [B, H, W] on the CPU.

        Grad-CAM shows only what speaks for an output (Selvaraju et al., 2017).
        """
        inputs, targets_B = self._inputs(raw), targets_B.to(self.predictor.device)
        if self._layer is None:
            return self._integrated(inputs, targets_B).sum(1)
        grad_cam = self._captum.LayerGradCam(self._scores, self._layer)
        maps = grad_cam.attribute(inputs, target=targets_B, relu_attributions=True).detach().float()
        return F.interpolate(maps, inputs.shape[-2:], mode="bilinear")[:, 0].cpu()

    def columns(self, raw: Tensor, targets_B: Tensor) -> Tensor:
        """Return how much each column adds to these outputs, float32 [B, K] on the CPU.

        The one-hot features of a category are added up. A row's sum is its output minus that of a row of means, in
        which no category is known.
        """
        features_BF = self._integrated(self._inputs(raw), targets_B.to(self.predictor.device))
        prepare = self.predictor.prepare
        if not isinstance(prepare, TablePrepare):
            return features_BF
        widths = [len(column.seen) if column.categories else 1 for column in prepare.columns]
        return torch.stack([part.sum(1) for part in features_BF.split(widths, dim=1)], dim=1)

    def _inputs(self, raw: Tensor) -> Tensor:
        predictor = self.predictor
        return predictor.prepare(raw.to(predictor.device), predictor.forward.dtype)

    def _integrated(self, inputs: Tensor, targets_B: Tensor) -> Tensor:
        """Integrate gradients from zeros, the training data's mean, to the inputs (Sundararajan et al., 2017)."""
        gradients = self._captum.IntegratedGradients(self._scores)
        size = max(len(inputs), self.predictor.batch_size)
        parts = gradients.attribute(inputs, target=targets_B, n_steps=STEPS, internal_batch_size=size)
        return parts.detach().float().cpu()


def last_convolution(predictor: Predictor) -> tuple[nn.Module | None, str]:
    """Return the convolution that a forward pass uses last, of those with more than one position, or why there is none.

    Attention makes the patches of an image exchange what they hold, so that a convolution before it says little.
    """
    if any("Attention" in type(module).__name__ for module in predictor.model.modules()):
        return None, "the model has attention, behind which a convolution says little about a class"
    used: list[nn.Module] = []

    def note(module: nn.Module, _: Any, output: Tensor) -> None:
        if output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            used.append(module)

    convolutions = [module for module in predictor.model.modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_hook(note) for module in convolutions]
    try:
        shape = (1, *predictor.prepare.output_shape)
        with torch.no_grad():
            predictor.forward(torch.zeros(shape, dtype=predictor.forward.dtype, device=predictor.device))
    finally:
        for hook in hooks:
            hook.remove()
    single = [module for module in used if used.count(module) == 1]
    return (single[-1], "") if single else (None, "the model has no convolution to look at")
