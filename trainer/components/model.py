"""Build the model for the data, after a trial forward pass on shapes."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainer.components.init import initialise
from trainer.components.metadata import Preprocessing
from trainer.components.objects import Copies
from trainer.components.preprocessing import normalise_as_typed
from trainer.components.target import Target
from trainer.config.keys import DataConfig, InitConfig
from trainer.data.dataset import Data
from trainer.data.streams import seeded_streams
from trainer.errors import Problem, UserError
from trainer.models import vision
from trainer.seeds import derive


@dataclass(frozen=True)
class ModelBuilder:
    """Builder of a model for samples of one shape; sizes that its configuration does not set come from the data.

    Attributes:
        output: `model.output`.
        shape: shape of a model input, without the batch.
        num_outputs: numbers that the model must return for each sample.
        published: whether its weights are or were torchvision's or timm's own.
    """

    target: Target
    output: str
    shape: tuple[int, ...]
    num_outputs: int
    published: bool

    def build(self) -> nn.Module:
        """Return a new model on the default device."""
        defaults: dict[str, Any] = {"in_features": math.prod(self.shape), "num_outputs": self.num_outputs}
        if self.target.factory in vision.BUILDERS:
            defaults |= {"output": self.output, "pretrained": self.published}
        if len(self.shape) == 3:
            defaults |= {"in_channels": self.shape[0], "image_size": self.shape[1:]}
        return self.target.build(**defaults)

    def try_on_meta(self) -> nn.Module:
        """Return the model on the meta device, after one forward pass on shapes, without memory or arithmetic.

        Raises:
            UserError: it cannot take such samples, or does not return `num_outputs` numbers for each.
        """
        if isinstance(self.target.factory, Copies):  # it may hold tensors that are not registered: tried as it is
            model = self.build().cpu().float()
            return self._tried(model)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # which are refused below
            try:
                with torch.device("meta"):
                    model = self.build()
            except NotImplementedError:  # some models compute with real numbers while they are built
                model = self.build().to("meta")
        return self._tried(model)

    def _tried(self, model: nn.Module) -> nn.Module:
        _check_elements(model, self.target.name)
        _check_ending(model, self.output)
        _try_forward(model, self.target.name, self.shape, self.num_outputs)
        return model


def build_model(builder: ModelBuilder, init: InitConfig, seed: int) -> nn.Module:
    """Return the model with weights drawn from `seed`, after a forward pass on shapes.

    Raises:
        UserError: model and data do not fit; the message shows both shapes.
    """
    builder.try_on_meta()
    with seeded_streams(derive(seed, "init")):
        model = builder.build()
        activation = init.activation or builder.target.arguments.get("activation") or "relu"
        initialise(model, init.name, activation, init.bound)
        return model


def fit_images(data: Data, target: Target, preprocessing: Preprocessing, typed: DataConfig | None = None) -> None:
    """Fit the images of `data`, which is mutated, to the size, channels and normalisation that the model expects.

    The normalisation that is `typed` takes precedence.

    Raises:
        UserError: the model takes images, and the data has none, or the typed normalisation does not fit the data.
    """
    _fit(data, target, preprocessing)
    if typed is not None:
        normalise_as_typed(data, typed)


def _fit(data: Data, target: Target, preprocessing: Preprocessing) -> None:
    parameters = target.parameters
    if len(data.shape) != 3:
        if getattr(target.factory, "image_size", None) or "in_channels" in parameters or "image_size" in parameters:
            reason = f"it takes images [channels, h, w]; the data has {list(data.shape)}"
            raise UserError(
                Problem("model._target_", reason, given=target.name, advice="Use model=mlp.", check="shapes")
            )
        return
    channels = vision.CHANNELS if target.factory in vision.BUILDERS else None
    size = (preprocessing.size, preprocessing.size) if isinstance(preprocessing.size, int) else preprocessing.size
    if size and tuple(data.shape[1:]) != tuple(size):
        data.fit(size, channels)
    elif channels and data.shape[0] != channels:
        data.fit(None, channels)
    if preprocessing.mean and preprocessing.std and len(preprocessing.mean) in (1, data.prepare.output_shape[0]):
        data.normalise(preprocessing.mean, preprocessing.std)


def place_model(model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Move a model to a device and a dtype, with channels last if it has convolutions; mutates it."""
    model.to(device, dtype)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)


ENDINGS = {nn.Softmax: "probabilities", nn.Sigmoid: "probabilities", nn.LogSoftmax: "log_probabilities"}


def _check_elements(model: nn.Module, name: str) -> None:
    """Refuse a layer of no units or channels: it would train, and predict a constant."""
    for path, weight in model.named_parameters():
        if not nn.parameter.is_lazy(weight) and weight.ndim > 1 and 0 in weight.shape:
            reason = f"{path} has the shape {list(weight.shape)}, without any element; sizes are whole numbers from 1"
            raise _shape_error(name, reason)


def _check_ending(model: nn.Module, output: str) -> None:
    """Refuse a final softmax that `model.output` does not name: a loss with its own trains badly then, silently."""
    last = model
    while isinstance(last, nn.Sequential) and len(last):
        last = last[-1]
    ending = ENDINGS.get(type(last))
    if ending is not None and ending != output:
        reason = f"the model ends in {type(last).__name__}"
        raise UserError(Problem("model.output", reason, given=output, advice=f"Set model.output={ending}."))


def _try_forward(model: nn.Module, name: str, shape: tuple[int, ...], num_outputs: int) -> None:
    place = next((p.device for p in model.parameters()), torch.device("cpu"))
    inputs = torch.zeros((2, *shape), device=place)
    try:
        with torch.no_grad():
            outputs = model.eval()(inputs)
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
        takes = f"; its first convolution takes {first.in_channels} channels" if first is not None else ""
        raise _shape_error(name, f"it cannot take inputs of {list(shape)}{takes}: {_first_line(error)}") from error
    if hasattr(model, "auxiliary_weight"):
        try:
            model.train()(inputs)
        except (RuntimeError, ValueError) as error:
            reason = f"its auxiliary heads cannot take inputs of {list(shape)}: {_first_line(error)}"
            raise _shape_error(name, reason, "Use larger images, or model.aux_logits=false.") from error
    actual = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if actual != (2, num_outputs):
        reason = f"it returns {actual} for two samples of {list(shape)}; the task needs (2, {num_outputs})"
        advice: dict[object, str] = {((2, 2), 1): "Use loss=cross_entropy.", ((2, 1), 2): "Use loss=bce_with_logits."}
        raise _shape_error(name, reason, advice.get((actual, num_outputs), ""))


def _shape_error(name: str, reason: str, advice: str = "") -> UserError:
    return UserError(Problem("model._target_", reason, given=name, advice=advice, check="shapes"))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")
