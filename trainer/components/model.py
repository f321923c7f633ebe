"""From configuration to objects: source, model, loss, optimizer, schedule, augmentation."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor, nn

from trainer.components.init import initialise
from trainer.components.loss import num_outputs
from trainer.components.pretrained import Preprocessing, preprocessing
from trainer.components.targets import call, resolve
from trainer.config.schema import Config
from trainer.data.dataset import Data
from trainer.errors import UserError
from trainer.models import vision
from trainer.seeds import derive


def build_model(config: Config, data: Data, wanted: Preprocessing | None = None) -> nn.Module:
    """The model for this data, its weights drawn from `seed`; sizes that the YAML leaves open come from the data.

    Also brings the images to what the model wants, and tries one forward pass on shapes.

    Raises:
        UserError: where model and data do not fit, with both shapes.
    """
    assert config.model.target is not None
    target = resolve(config.model.target, "model")
    wanted = wanted or preprocessing(config)
    parameters = inspect.signature(target).parameters
    takes_images = getattr(target, "image_size", None) or "in_channels" in parameters or "image_size" in parameters
    images = len(data.shape) == 3
    if not images and takes_images:
        raise UserError(
            f"model._target_={config.model.target} takes images [channels, h, w]; the data has {list(data.shape)}: "
            "use model=mlp."
        )
    if images:
        _fit(data, wanted, vision.CHANNELS if target in vision.BUILDERS else None)
    shape, outputs = data.prepare.output_shape, num_outputs(config, data.task)
    given = model_arguments(config, shape, outputs, published=wanted.published)
    try_model(config, given, shape, outputs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(config.seed, "init"))
        made = call("model", config.model, **given)
        activation = config.init.activation
        if activation == "auto":
            activation = config.model.arguments.get("activation") or "relu"
        initialise(made, config.init.name, activation, config.init.bound)
        return made


def model_arguments(config: Config, shape: tuple[int, ...], outputs: int, *, published: bool) -> dict[str, Any]:
    """What a model is given where its YAML leaves it open.

    Args:
        shape: of a sample as the model takes it.
        published: its weights were torchvision's or timm's own.
    """
    given: dict[str, Any] = {"in_features": math.prod(shape), "num_outputs": outputs}
    if resolve(config.model.target or "", "model") in vision.BUILDERS:
        given |= {"output": config.model.output, "pretrained": published}
    if len(shape) == 3:
        given |= {"in_channels": shape[0], "image_size": shape[1:]}
    return given


def try_model(config: Config, given: dict[str, Any], shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The model without memory, after one forward pass on shapes.

    Raises:
        UserError: it cannot take such samples, or gives something else than `outputs` numbers for each.
    """
    trial = _on_meta(config, given)
    _check_ending(trial, config.model.output)
    _try(trial, config.model.target or "", shape, outputs)
    return trial


def place_model(model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Brings a model to a device and a type, images' channels last; mutates it."""
    model.to(device, dtype)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)


def _fit(data: Data, wanted: Preprocessing, channels: int | None) -> None:
    size = (wanted.size, wanted.size) if isinstance(wanted.size, int) else wanted.size
    if size and tuple(data.shape[1:]) != tuple(size):
        data.fit(size, channels)
    elif channels and data.shape[0] != channels:
        data.fit(None, channels)
    if wanted.mean and wanted.std and len(wanted.mean) in (1, data.prepare.output_shape[0]):
        data.normalise(wanted.mean, wanted.std)


def _on_meta(config: Config, given: dict[str, Any]) -> nn.Module:
    """The model without memory or arithmetic; some need real numbers while they are made."""
    try:
        with torch.device("meta"):
            return call("model", config.model, **given)
    except NotImplementedError:
        return call("model", config.model, **given).to("meta")


ENDINGS = {nn.Softmax: "probabilities", nn.Sigmoid: "probabilities", nn.LogSoftmax: "log_probabilities"}


def _check_ending(trial: nn.Module, output: str) -> None:
    """A softmax before a loss that has its own trains badly and silently, so it must be said to be there."""
    last = trial
    while isinstance(last, nn.Sequential) and len(last):
        last = last[-1]
    found = ENDINGS.get(type(last))
    if found is not None and found != output:
        raise UserError(f"model.output={output}: the model ends in {type(last).__name__}. Say model.output={found}.")


def _try(trial: nn.Module, name: str, shape: tuple[int, ...], outputs: int) -> None:
    """One forward pass without arithmetic: do the shapes fit?"""
    try:
        result = trial.eval()(torch.empty((2, *shape), device="meta"))
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        first = next((m for m in trial.modules() if isinstance(m, nn.Conv2d)), None)
        wants = f"; its first convolution takes {first.in_channels} channels" if first is not None else ""
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"model._target_={name} cannot take inputs of {list(shape)}{wants}: {reason}.") from error
    if hasattr(trial, "auxiliary_weight"):
        try:
            trial.train()(torch.empty((2, *shape), device="meta"))
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"model._target_={name}: its auxiliary heads cannot take inputs of {list(shape)}: "
                f"{str(error).splitlines()[0].rstrip('.')}. Use larger images, or model.aux_logits=false."
            ) from error
    found = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
    if found != (2, outputs):
        raise UserError(
            f"model._target_={name} gives {found} for two samples of {list(shape)}; the task needs (2, {outputs})."
        )
