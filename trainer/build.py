"""From configuration to objects: the only place that resolves a `_target_`, judging by kind what may stand there."""

from __future__ import annotations

import importlib
import inspect
import math
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler
from torch.utils.data import Dataset

from trainer.config import Config, DataConfig, Duration, Part, did_you_mean, show
from trainer.data.augment import Augmentation
from trainer.data.load import Data
from trainer.data.source import Source, from_dataset
from trainer.errors import UserError
from trainer.schedule import Schedule
from trainer.seeds import derive

OUR_MODULES = ("trainer", "torch", "torchvision")
SCHEDULE_LENGTHS = ("T_max", "total_steps")


@dataclass(frozen=True)
class Kind:
    """What may stand at a plug point: a subclass of `base`, or a function annotated to return `result`."""

    base: type
    words: str
    result: type | None = None
    given: tuple[str, ...] = ()  # arguments that this program passes


KINDS = {
    "model": Kind(
        nn.Module, "a torch.nn.Module", nn.Module, ("in_channels", "image_size", "in_features", "num_outputs")
    ),
    "data": Kind(Dataset, "a torch.utils.data.Dataset", Source, ("root", "split")),
    "loss": Kind(nn.Module, "a loss from torch.nn"),
    "optim": Kind(Optimizer, "a torch.optim.Optimizer", given=("params",)),
    "schedule": Kind(
        LRScheduler, "a scheduler from torch.optim.lr_scheduler", given=("optimizer", "max_lr", *SCHEDULE_LENGTHS)
    ),
    "augment": Kind(Augmentation, "a trainer.data.augment.Augmentation"),
}


def resolve(target: str, kind_name: str, *, trusted: bool = True) -> Callable[..., Any]:
    """The class or function that `_target_` names, if it is of the kind.

    Args:
        trusted: False for configuration read back from a file, which may name only this program, torch, torchvision.

    Raises:
        UserError: it is not there, or not of the kind, or not to be trusted.
    """
    kind, where = KINDS[kind_name], f"{kind_name}._target_={target}"
    module_name, _, name = target.rpartition(".")
    if not module_name:
        raise UserError(f"{where}: expected module.name, such as mymodule.{target or 'Name'}.")
    if not trusted and module_name.partition(".")[0] not in OUR_MODULES:
        raise UserError(f"{where}: a stored configuration names code of its own. If you trust it, add trust=true.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise
        raise UserError(f"{where}: there is no module {error.name}, also not in the current folder.") from error
    found = getattr(module, name, None)
    if found is None:
        raise UserError(f"{where}: {module_name} has no {name}.{did_you_mean(name, vars(module), module_name + '.')}")
    if not _is_of_kind(found, kind):
        raise UserError(f"{where}: it is not {kind.words}.")
    return found


def _is_of_kind(found: Any, kind: Kind) -> bool:
    if inspect.isclass(found):
        return issubclass(found, kind.base)
    if kind.result is None or not inspect.isfunction(found):
        return False
    try:
        returned = typing.get_type_hints(found).get("return")
    except NameError:
        return False
    return inspect.isclass(returned) and issubclass(returned, kind.result)


def check(config: Config, parts: Iterable[str], *, trusted: bool = True) -> list[str]:
    """What is wrong with the targets of these parts and their arguments, before anything is built."""
    problems: list[str] = []
    for name in parts:
        part = getattr(config, name)
        if part.target is None:
            problems += [f"{name}.{key}: no such key: {name} has no _target_ that takes it." for key in part.arguments]
            continue
        try:
            target = resolve(part.target, name, trusted=trusted)
            problems += _check_arguments(name, part, target)
        except UserError as error:
            problems += error.problems
    if not problems and "optim" in parts and config.optim.target:
        problems += _try_optimizer(config.optim)
    return problems


def _try_optimizer(part: Part) -> list[str]:
    try:
        trial = _call("optim", part, [nn.Parameter(torch.zeros(1))])
    except UserError as error:
        return error.problems
    closure = inspect.signature(type(trial).step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        return [
            f"optim._target_={part.target}: it evaluates the loss several times a step, which this loop does not do."
        ]
    return []


def _check_arguments(name: str, part: Part, target: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(target).parameters
    given, problems = KINDS[name].given, []
    names = [p.name for p in parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    open_ended = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    for key, value in part.arguments.items():
        if key not in names and not open_ended:
            own = [n for n in names if n not in given] or names
            near = did_you_mean(key, own, f"{name}.") or f" It takes {', '.join(own) or 'none'}."
            problems.append(f"{name}.{key}: {part.target} has no such argument.{near}")
        elif key in parameters and isinstance(value, str) and _is_number(parameters[key].default):
            problems.append(f"{name}.{key}={value}: expected a number.")
    required = [
        p.name
        for p in parameters.values()
        if p.default is p.empty
        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        and p.name not in part.arguments
        and p.name not in given
    ]
    return problems + [f"{name}.{key}: {part.target} needs it: {name}.{key}=..." for key in required]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _call(name: str, part: Part, *positional: Any, **given: Any) -> Any:
    """Constructs a part; what its constructor refuses becomes a sentence."""
    assert part.target is not None
    target = resolve(part.target, name)
    parameters = inspect.signature(target).parameters
    passed = {k: v for k, v in given.items() if k in parameters and part.arguments.get(k) is None}
    try:
        return target(*positional, **{**part.arguments, **passed})
    except UserError:
        raise
    except (ValueError, TypeError) as error:
        typed = " ".join(f"{name}.{k}={show(v)}" for k, v in part.arguments.items())
        raise UserError(f"{name}: {part.target} refuses {typed or 'its arguments'}: {error}.") from error


def source(config: DataConfig) -> Source:
    """
    Raises:
        UserError: as the source does, where data is absent or damaged.
    """
    assert config.target is not None
    target = resolve(config.target, "data")
    if not inspect.isclass(target):
        return _call("data", config, root=config.root)
    given = {"root": config.root} if "root" in inspect.signature(target).parameters else {}

    def make(**split: str) -> Any:
        return _call("data", config, **given, **split)

    if "split" in inspect.signature(target).parameters and "split" not in config.arguments:
        return from_dataset(lambda split: make(split=split), config.target)
    return from_dataset(lambda: make(), config.target)


def num_outputs(config: Config, data: Data) -> int:
    """One logit for a binary task, unless the loss wants one per class.

    Raises:
        UserError: where the loss does not fit the task.
    """
    classes = len(data.classes)
    if config.loss.target is None:
        return 1 if data.task == "binary" else classes
    if issubclass(typing.cast(type, resolve(config.loss.target, "loss")), nn.BCEWithLogitsLoss):
        if data.task != "binary":
            raise UserError(
                f"loss={_short(config.loss)} fits two classes, and the data has {classes}: use loss=cross_entropy."
            )
        return 1
    return classes


def _short(part: Part) -> str:
    return {"torch.nn.BCEWithLogitsLoss": "bce_with_logits", "torch.nn.CrossEntropyLoss": "cross_entropy"}.get(
        part.target or "", part.target or "auto"
    )


class Criterion:
    """Mean loss of outputs [B, C] and class indices [B]; one output is a logit for class 1."""

    def __init__(self, loss: nn.Module, outputs: int) -> None:
        self.loss, self.single = loss, outputs == 1

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.single:  # [B, 1] against [B] would broadcast silently in some losses
            return self.loss(outputs.squeeze(-1), targets.to(outputs.dtype))
        return self.loss(outputs, targets)


def criterion(config: Config, data: Data, device: torch.device) -> Criterion:
    outputs = num_outputs(config, data)
    if config.loss.target is None:
        return Criterion(nn.BCEWithLogitsLoss() if outputs == 1 else nn.CrossEntropyLoss(), outputs)
    return Criterion(_call("loss", config.loss).to(device), outputs)


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
            f"model._target_={config.model.target} takes images [channels, h, w]; the data has {list(data.shape)}."
        )
    if images and fixed:
        data.fit(tuple(fixed))
    shape, outputs = data.prepare.output_shape, num_outputs(config, data)
    given: dict[str, Any] = {"in_features": math.prod(shape), "num_outputs": outputs}
    if images:
        given |= {"in_channels": shape[0], "image_size": shape[1:]}
    with torch.device("meta"):
        trial = _call("model", config.model, **given)
    _try(trial, config.model.target, shape, outputs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(config.seed, "init"))
        return _call("model", config.model, **given)


def _try(trial: nn.Module, name: str, shape: tuple[int, ...], outputs: int) -> None:
    """One forward pass without arithmetic: do the shapes fit?"""
    try:
        result = trial.eval()(torch.empty((2, *shape), device="meta"))
    except (RuntimeError, ValueError, IndexError) as error:
        raise UserError(
            f"model._target_={name} cannot take inputs of {list(shape)}: {str(error).splitlines()[0]}."
        ) from error
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
    trained = [p for p in model.parameters() if p.requires_grad]
    choices = {"fused", "foreach", "differentiable", "capturable"} & set(config.optim.arguments)
    fused = {} if choices or device.type not in ("cpu", "cuda", "mps") else {"fused": True}
    return _call("optim", config.optim, trained, **fused)


def schedule_depends_on_epochs(config: Config) -> bool:
    """Whether the learning rate at a step would be another if `epochs` were."""
    if config.schedule.target is None:
        return False
    parameters = inspect.signature(resolve(config.schedule.target, "schedule")).parameters
    return any(name in parameters and config.schedule.arguments.get(name) is None for name in SCHEDULE_LENGTHS)


def schedule(config: Config, optimizer: Optimizer, steps_per_epoch: int) -> Schedule:
    """
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
    warmup = None
    if warmup_steps:
        warmup = LinearLR(optimizer, start_factor=1 / (warmup_steps + 1), total_iters=warmup_steps)
    if part.target is None:
        return Schedule(None, part.interval, warmup, warmup_steps)
    validate = Duration.parse(config.validate_every)
    every = validate.amount * (steps_per_epoch if validate.unit == "ep" else 1)
    length = {"step": total - warmup_steps, "epoch": config.epochs, "validation": max(total // every, 1)}[part.interval]
    max_lr = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    main = _call("schedule", part, optimizer, max_lr=max_lr, T_max=length, total_steps=length)
    return Schedule(main, part.interval, warmup, warmup_steps)


def augmentation(config: Config, data: Data) -> Augmentation | None:
    """
    Raises:
        UserError: where there are no images to augment.
    """
    if config.augment.target is None:
        return None
    if len(data.shape) != 3:
        raise UserError(f"augment: the data has no images but {list(data.shape)}. Use augment=none.")
    return _call("augment", config.augment)
