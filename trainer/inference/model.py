"""The model of a checkpoint, built and placed on its device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer import device
from trainer.components.model import ModelBuilder, place_model
from trainer.components.targets import find_targets
from trainer.data.streams import seeded_streams
from trainer.errors import Problem, UserError, first_few
from trainer.inference.checkpoint import LoadedCheckpoint, advised
from trainer.seeds import derive
from trainer.training.forward import forward

SHOWN = 6  # names in a sentence


class InferenceModel:
    """The model of a checkpoint in eval mode; calling it returns outputs [B, C] of inputs [B, ...].

    `device_name` is None for the first accelerator, else the CPU; `precision` that of the training.

    Raises:
        UserError: the model cannot be built, or there is no such device.
    """

    def __init__(
        self, checkpoint: LoadedCheckpoint, device_name: str | None, precision: str, *, compiled: bool = False
    ) -> None:
        self.device, self.precision = device.choose(device_name), precision
        self.dtype = device.dtype_of(precision, self.device)
        self.model = build_model(checkpoint)
        place_model(self.model, self.device, self.dtype)
        self._call = torch.compile(self.model) if compiled else self.model

    def __call__(self, inputs: Tensor) -> Tensor:
        return forward(self._call, inputs, self.device, self.precision)[0]


def build_model(checkpoint: LoadedCheckpoint) -> nn.Module:
    """Build the model of a checkpoint with its weights, on the CPU, in eval mode.

    Only the keys `model`, `precision` and `seed` of the configuration are used. What a model draws when it is made, and
    keeps in no tensor of its state, is drawn as in training.

    Raises:
        UserError: the configuration is not trusted, or the weights belong to another model.
    """
    config, metadata = checkpoint.config("model", "precision", "seed"), checkpoint.metadata
    targets, problems = find_targets(config, ["model"], trusted=checkpoint.trusted)
    if problems:
        raise UserError(*(advised(problem, checkpoint.path) for problem in problems))
    shape, published = metadata.prepare.output_shape, metadata.preprocessing.published
    builder = ModelBuilder(targets.model, config.model.output, shape, metadata.num_outputs, published)
    try:
        # Check shapes first, on the meta device: a file of a few bytes may describe a model of terabytes.
        expected = builder.try_on_meta().state_dict()
        _check_shapes(checkpoint, {name: tuple(value.shape) for name, value in expected.items()})
        with seeded_streams(derive(config.seed, "init")):
            model = builder.build()
        if config.precision == "float64":  # before loading the weights, which would be rounded otherwise
            model.double()
        model.load_state_dict(checkpoint.weights)
    except (RuntimeError, MemoryError) as error:
        first_line = str(error).splitlines()[0].rstrip(".")
        raise UserError(Problem(str(checkpoint.path), f"its model cannot be built: {first_line}")) from error
    return model.eval()


def _check_shapes(checkpoint: LoadedCheckpoint, expected: dict[str, tuple[int, ...]]) -> None:
    """Check names and shapes of the weights against those of the model."""
    stored = {name: tuple(value.shape) for name, value in checkpoint.weights.items()}
    differing = [name for name in {**expected, **stored} if expected.get(name) != stored.get(name)]
    if differing:
        reason = f"its weights are not those of the model that it names: {first_few(differing, SHOWN)}"
        raise UserError(Problem(str(checkpoint.path), reason))
