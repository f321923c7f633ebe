"""A trained model on its device, ready for inference."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer import device
from trainer.components.model import place_model
from trainer.inference.checkpoint import LoadedCheckpoint
from trainer.training.forward import forward


class InferenceModel:
    """The model of a checkpoint in eval mode; calling it returns outputs [B, C] of inputs [B, ...].

    Args:
        device_name: auto, cpu, cuda, cuda:N or mps.
        precision: the arithmetic that it was trained in.
        compiled: call it through torch.compile.

    Raises:
        UserError: the model cannot be built, or there is no such device.
    """

    def __init__(
        self, checkpoint: LoadedCheckpoint, device_name: str, precision: str, *, compiled: bool = False
    ) -> None:
        self.device, self.precision = device.choose(device_name), precision
        dtype = device.dtype_of(precision, self.device)
        self.model = checkpoint.model()
        place_model(self.model, self.device, dtype)
        self._call = torch.compile(self.model) if compiled else self.model

    def __call__(self, inputs: Tensor) -> Tensor:
        return forward(self._call, inputs, self.device, self.precision)[0]
