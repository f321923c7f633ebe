"""From configuration to objects: source, model, loss, optimizer, schedule, augmentation."""

from __future__ import annotations

import inspect
import math
import typing
from typing import Any

import torch
from torch import Tensor, nn

from trainer.config import Config
from trainer.criterion import Criterion, Fits, automatic, class_weights, fitting, weighted
from trainer.data.augment import Augmentation
from trainer.data.batches import targets_on
from trainer.data.load import Data
from trainer.data.mix import Mix
from trainer.data.pool import Progress
from trainer.data.prepare import Prepare
from trainer.data.source import Source, from_dataset
from trainer.data.table import Known
from trainer.errors import UserError
from trainer.init import initialise
from trainer.keys import DataConfig
from trainer.models import vision
from trainer.pretrained import ANY, Preprocessing, preprocessing
from trainer.seeds import derive
from trainer.targets import call, resolve
from trainer.tasks import Regression, Task


def source(
    config: DataConfig, wanted: Preprocessing = ANY, progress: Progress | None = None, like: Known | None = None
) -> Source:
    """The data source; images are read in the form that is wanted, where the configuration leaves it open.

    Args:
        like: the columns and classes that a table must have, as they were when a model was trained on one.
        progress: is told how far reading is, where it takes long; may raise to end it.

    Raises:
        UserError: as the source does, where data is absent or damaged.
    """
    assert config.target is not None
    target = resolve(config.target, "data")
    if not inspect.isclass(target):
        given: dict[str, Any] = {"root": config.root, "progress": progress, "like": like}
        if "resize" in inspect.signature(target).parameters and wanted.size:
            # Squashed to a square first, images of another form are brought to it by what prepares them.
            given |= {
                "size": wanted.size if isinstance(wanted.size, int) else max(wanted.size),
                "resize": wanted.resize,
            }
        return call("data", config, **given)
    given = {"root": config.root} if "root" in inspect.signature(target).parameters else {}

    def make(**split: str) -> Any:
        return call("data", config, **given, **split)

    if "split" in inspect.signature(target).parameters and "split" not in config.arguments:
        return from_dataset(lambda split: make(split=split), config.target)
    return from_dataset(lambda: make(), config.target)


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


def criterion(config: Config, data: Data, device: torch.device) -> Criterion:
    """The loss with its class weights, fed as the task wants it.

    Raises:
        UserError: where it does not fit, or takes no weights.
    """
    first = data.splits["train"].loss_targets[:2]
    return criterion_for(config, data.task, device, loss_weights(config, data), first)


def criterion_for(
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


def _try_loss(made: Criterion, fits: Fits, outputs: Tensor, targets: Tensor) -> None:
    """One loss of two samples: is it a number?"""
    try:
        found = list(made(outputs, targets).shape)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise UserError(f"loss={fits.name}: it does not take outputs of {list(outputs.shape)}: {error}.") from error
    if found:
        raise UserError(f"loss={fits.name}: it gives a tensor of {found}; expected one number, the mean of the batch.")


def model(config: Config, data: Data, wanted: Preprocessing | None = None) -> nn.Module:
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


def place(model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
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


def augmentation(config: Config, data: Data) -> Augmentation | None:
    """The augmentation, or None.

    Raises:
        UserError: where there are no images to augment.
    """
    if config.augment.target is None:
        return None
    if len(data.shape) != 3 or not isinstance(data.prepare, Prepare):
        raise UserError(f"augment: the data has no images but {list(data.shape)}. Use augment=none.")
    return call("augment", config.augment, mean=data.prepare.mean, std=data.prepare.std)


def mix(config: Config, data: Data) -> Mix | None:
    """mixup and cutmix, or None.

    Raises:
        UserError: a regression, a table for cutmix, or a loss that takes no class probabilities.
    """
    for name in ("mixup", "cutmix"):
        if getattr(config.augment, name) and isinstance(data.task, Regression):
            raise UserError(f"augment.{name}: the task is a regression; only classes are mixed.")
    if not (config.augment.mixup or config.augment.cutmix):
        return None
    if config.augment.cutmix and len(data.shape) != 3:
        raise UserError(f"augment.cutmix: the data has no images but {list(data.shape)}. Use augment.mixup.")
    chosen = loss_class(config, data.task)
    if issubclass(chosen, nn.NLLLoss):
        raise UserError("loss=nll takes classes, and augment.mixup gives class probabilities: use cross_entropy.")
    return Mix(len(data.task.classes), config.augment.mixup, config.augment.cutmix)
