"""From configuration to objects: source, model, loss, optimizer, schedule, augmentation."""

from __future__ import annotations

import inspect
import math
import typing
import warnings
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, ReduceLROnPlateau

from trainer.config import DIRECTIONS, Config, Duration
from trainer.convert import did_you_mean, show
from trainer.criterion import Criterion, Fits, automatic, class_weights, fitting, weighted
from trainer.data.augment import Augmentation
from trainer.data.batches import targets_on
from trainer.data.load import Data
from trainer.data.mix import Mix
from trainer.data.pool import Watch
from trainer.data.prepare import Prepare
from trainer.data.source import Source, from_dataset
from trainer.errors import UserError
from trainer.init import initialise
from trainer.keys import DataConfig, Part
from trainer.schedule import Schedule
from trainer.seeds import derive
from trainer.targets import SCHEDULE_LENGTHS, call, resolve
from trainer.tasks import Regression


def source(config: DataConfig, watch: Watch | None = None) -> Source:
    """The data source; `watch` is told how far reading is, where it takes long.

    Raises:
        UserError: as the source does, where data is absent or damaged.
    """
    assert config.target is not None
    target = resolve(config.target, "data")
    if not inspect.isclass(target):
        return call("data", config, root=config.root, watch=watch)
    given = {"root": config.root} if "root" in inspect.signature(target).parameters else {}

    def make(**split: str) -> Any:
        return call("data", config, **given, **split)

    if "split" in inspect.signature(target).parameters and "split" not in config.arguments:
        return from_dataset(lambda split: make(split=split), config.target)
    return from_dataset(lambda: make(), config.target)


def loss_class(config: Config, data: Data) -> type[nn.Module]:
    """The loss that is named, or the one that `loss=auto` stands for."""
    if config.loss.target is None:
        return automatic(data.task, config.model.output)
    return typing.cast(type[nn.Module], resolve(config.loss.target, "loss"))


def num_outputs(config: Config, data: Data) -> int:
    """One, or one per class, as the loss wants it.

    Raises:
        UserError: where the loss does not fit the task or the model's output.
    """
    fits = fitting(loss_class(config, data), data.task, config.model.output)
    return 1 if fits.single else len(data.task.classes)


def criterion(config: Config, data: Data, device: torch.device) -> Criterion:
    """The loss with its class weights, fed as the task wants it.

    Raises:
        UserError: where it does not fit, or takes no weights.
    """
    chosen = loss_class(config, data)
    fits = fitting(chosen, data.task, config.model.output)
    given: dict[str, Tensor] = {}
    weight = "balanced" if config.data.balance == "loss" else config.loss.weight
    if weight is not None:
        given = weighted(chosen, class_weights(weight, data.task, data.splits["train"].targets))
    if config.loss.target is None:
        loss = chosen(**given, **config.loss.arguments)
    else:
        loss = call("loss", config.loss, **given)
    if getattr(loss, "reduction", "mean") != "mean":
        raise UserError(f"loss.reduction={loss.reduction}: expected mean; sums over batches are kept by the loop.")
    scale = (data.task.mean, data.task.std) if isinstance(data.task, Regression) else (0.0, 1.0)
    dtype = torch.float64 if config.precision == "float64" else torch.float32
    made = Criterion(loss.to(device, dtype), fits, config.model.output, *scale)
    outputs = torch.full((2, 1 if fits.single else len(data.task.classes)), 0.5, dtype=dtype, device=device)
    _try_loss(made, fits, outputs, targets_on(data.splits["train"].targets[:2], device))
    return made


def _try_loss(made: Criterion, fits: Fits, outputs: Tensor, targets: Tensor) -> None:
    """One loss of two samples: is it a number?"""
    try:
        found = list(made(outputs, targets).shape)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise UserError(f"loss={fits.name}: it does not take outputs of {list(outputs.shape)}: {error}.") from error
    if found:
        raise UserError(f"loss={fits.name}: it gives a tensor of {found}; expected one number, the mean of the batch.")


def model(config: Config, data: Data) -> nn.Module:
    """The model for this data, its weights drawn from `seed`; sizes that the YAML leaves open come from the data.

    Also fits the images to a model of fixed size (`data.fit`), and tries one forward pass on shapes.

    Raises:
        UserError: where model and data do not fit, with both shapes.
    """
    assert config.model.target is not None
    target = resolve(config.model.target, "model")
    images = len(data.shape) == 3
    fixed = getattr(target, "image_size", None)
    parameters = inspect.signature(target).parameters
    if not images and (fixed or "in_channels" in parameters):
        raise UserError(
            f"model._target_={config.model.target} takes images [channels, h, w]; the data has {list(data.shape)}: "
            "use model=mlp."
        )
    if images and fixed:
        data.fit(tuple(fixed))
    shape, outputs = data.prepare.output_shape, num_outputs(config, data)
    given: dict[str, Any] = {"in_features": math.prod(shape), "num_outputs": outputs}
    if images:
        given |= {"in_channels": shape[0], "image_size": shape[1:]}
    with torch.device("meta"):
        trial = call("model", config.model, **given)
    _check_ending(trial, config.model.output)
    _try(trial, config.model.target, shape, outputs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(config.seed, "init"))
        made = call("model", config.model, **given)
        activation = config.init.activation
        if activation == "auto":
            activation = config.model.arguments.get("activation") or "relu"
        initialise(made, config.init.name, activation, config.init.bound)
        return made


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
    except (RuntimeError, ValueError, IndexError) as error:
        first = next((m for m in trial.modules() if isinstance(m, nn.Conv2d)), None)
        wants = f"; its first convolution takes {first.in_channels} channels" if first is not None else ""
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"model._target_={name} cannot take inputs of {list(shape)}{wants}: {reason}.") from error
    found = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
    if found != (2, outputs):
        raise UserError(
            f"model._target_={name} gives {found} for two samples of {list(shape)}; the task needs (2, {outputs})."
        )


def freeze(model: nn.Module, patterns: list[str]) -> list[nn.Module]:
    """Holds the parameters whose names match; returns the modules that are wholly held and must stay in eval mode.

    Raises:
        UserError: a pattern that matches nothing, or nothing left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = did_you_mean(pattern, names)
            raise UserError(f"freeze={pattern}: no parameter has such a name.{near} There is: {', '.join(names[:12])}.")
    for name, parameter in model.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError(f"freeze={','.join(patterns)}: nothing is left to train.")
    return [
        module
        for module in model.modules()
        if (held := list(module.parameters())) and not any(p.requires_grad for p in held)
    ]


def optimizer(config: Config, model: nn.Module, device: torch.device) -> Optimizer:
    """Over the parameters that are trained; torch's fused kernel where it has one and the YAML does not choose."""
    trained: Any = [p for p in model.parameters() if p.requires_grad]
    if not config.optim.decay_all:
        matrices = [p for p in trained if p.ndim >= 2]
        others = [p for p in trained if p.ndim < 2]
        trained = [{"params": matrices}, {"params": others, "weight_decay": 0.0}] if others else trained
    choices = {"fused", "foreach", "differentiable", "capturable"} & set(config.optim.arguments)
    fused = {} if choices or device.type not in ("cpu", "cuda", "mps") else {"fused": True}
    return call("optim", config.optim, trained, **fused)


def schedule_depends_on_epochs(config: Config) -> bool:
    """Whether the learning rate at a step would be another if `epochs` were."""
    if config.schedule.target is None:
        return False
    parameters = inspect.signature(resolve(config.schedule.target, "schedule")).parameters
    return any(name in parameters and config.schedule.arguments.get(name) is None for name in SCHEDULE_LENGTHS)


def schedule(config: Config, optimizer: Optimizer, steps_per_epoch: int) -> Schedule:
    """The schedule over the whole run.

    Raises:
        UserError: a warm-up before a schedule that has its own, or one as long as the run.
    """
    part = config.schedule
    warmup_steps = round(part.warmup_epochs * steps_per_epoch)
    total = config.epochs * steps_per_epoch
    if warmup_steps >= total:
        raise UserError(f"schedule.warmup_epochs={part.warmup_epochs:g}: expected less than epochs={config.epochs}.")
    if warmup_steps and part.target and part.target.endswith((".OneCycleLR", ".CyclicLR")):
        raise UserError("schedule.warmup_epochs: one_cycle has its own warm-up, schedule.pct_start.")
    if part.target is None:
        return Schedule(None, part.interval, _warmup(optimizer, warmup_steps), warmup_steps)
    validate = Duration.parse(config.validate_every)
    every = validate.amount * (steps_per_epoch if validate.unit == "ep" else 1)
    length = {"step": total - warmup_steps, "epoch": config.epochs, "validation": max(total // every, 1)}[part.interval]
    max_lr = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    better = {"mode": DIRECTIONS[config.monitor]} if part.target.endswith(".ReduceLROnPlateau") else {}
    lengths = {"max_lr": max_lr, **better, **dict.fromkeys(SCHEDULE_LENGTHS, length)}
    _try_schedule(part, lengths | {"max_lr": max_lr[0]})
    main = call("schedule", part, optimizer, **lengths)
    return Schedule(main, part.interval, _warmup(optimizer, warmup_steps), warmup_steps)


def _warmup(optimizer: Optimizer, steps: int) -> LinearLR | None:
    """Comes after the main scheduler is made: some set the rates when they are."""
    if not steps:
        return None
    for group in optimizer.param_groups:
        group["lr"] = group.get("initial_lr", group["lr"])
    return LinearLR(optimizer, start_factor=1 / (steps + 1), total_iters=steps)


def _try_schedule(part: Part, given: dict[str, Any]) -> None:
    """Some schedulers take what only their first steps refuse, such as a step_size of 0."""
    trial = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    scheduler = call("schedule", part, trial, **given)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no optimizer step comes before
            scheduler.step(*([1.0] if isinstance(scheduler, ReduceLROnPlateau) else []))
    except (ZeroDivisionError, ValueError, TypeError) as error:
        typed = " ".join(f"schedule.{key}={show(value)}" for key, value in part.arguments.items())
        raise UserError(f"schedule: {part.target} refuses {typed}: {error}.") from error


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
    chosen = loss_class(config, data)
    if issubclass(chosen, nn.NLLLoss):
        raise UserError("loss=nll takes classes, and augment.mixup gives class probabilities: use cross_entropy.")
    return Mix(len(data.task.classes), config.augment.mixup, config.augment.cutmix)
