"""The optimizer with its groups of parameters, and the schedule of its learning rates."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, ReduceLROnPlateau

from trainer.components.targets import SCHEDULE_LENGTHS, call, resolve
from trainer.config.keys import ComponentConfig
from trainer.config.schema import Config, Duration
from trainer.data.metrics import DIRECTIONS
from trainer.errors import UserError, show
from trainer.training.freeze import head_path, within
from trainer.training.schedule import Schedule


def build_optimizer(config: Config, model: nn.Module, device: torch.device) -> Optimizer:
    """Over the parameters that are trained, now or from `unfreeze_at` on; the head's group first, for metrics.csv.

    torch's fused kernel is used where it has one and the YAML does not choose.

    Raises:
        UserError: learning rates for layers, and an optimizer without one of its own in the configuration.
    """
    choices = {"fused", "foreach", "differentiable", "capturable"} & set(config.optim.arguments)
    fused = {} if choices or device.type not in ("cpu", "cuda", "mps") else {"fused": True}
    return call("optim", config.optim, _groups(config, model), **fused)


def _groups(config: Config, model: nn.Module) -> Any:
    """Parameters by learning rate and weight decay; a plain list where all are alike."""
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad or config.unfreeze_at is not None]
    if config.optim.decay_all and config.optim.backbone_lr is None and config.optim.layer_decay is None:
        return [p for _, p in trained]
    rates, head = _rates(config, model, [name for name, _ in trained]), head_path(model)
    groups: dict[tuple[float | None, bool], list[nn.Parameter]] = {}
    for name, parameter in sorted(trained, key=lambda pair: not within(pair[0], head)):
        decays = config.optim.decay_all or parameter.ndim >= 2
        groups.setdefault((rates.get(name), decays), []).append(parameter)
    return [
        {"params": parameters, **({} if rate is None else {"lr": rate}), **({} if decays else {"weight_decay": 0.0})}
        for (rate, decays), parameters in groups.items()
    ]


def _rates(config: Config, model: nn.Module, names: list[str]) -> dict[str, float]:
    """The learning rate of each parameter by name; none where all have the optimizer's own.

    Layers are counted from the head down, see `_layer`.
    """
    backbone_lr, decay = config.optim.backbone_lr, config.optim.layer_decay
    if backbone_lr is None and decay is None:
        return {}
    lr = config.optim.arguments.get("lr")
    if lr is None:
        raise UserError("optim.lr: a value is needed where layers have learning rates of their own.")
    head = head_path(model)
    below = [name for name in names if not within(name, head)]
    layers = [layer for layer in dict.fromkeys(_layer(model, name) for name in below) if layer]
    depth = {layer: len(layers) - number for number, layer in enumerate(layers)}
    rates = {}
    for name in names:
        if within(name, head):
            rates[name] = lr
        else:
            # Class tokens and position embeddings are no layers: they go with the lowest.
            lowest = max(len(layers), 1)
            power = depth.get(_layer(model, name), lowest)
            rates[name] = (lr if backbone_lr is None else backbone_lr) * (decay or 1.0) ** power
    return rates


def _layer(model: nn.Module, name: str) -> str:
    """The layer that a parameter is counted with: a child of the model, or of a sequence among its children.

    A child that holds most of the model, as the encoder of a transformer does, is looked into. Empty for parameters
    that are in no layer.
    """
    whole = sum(parameter.numel() for parameter in model.parameters())
    module, path = model, ""
    for part in name.split(".")[:-1]:
        sequence = isinstance(module, (nn.Sequential, nn.ModuleList)) and module is not model
        module, path = module.get_submodule(part), f"{path}.{part}" if path else part
        most = 2 * sum(parameter.numel() for parameter in module.parameters()) > whole
        inner = isinstance(module, (nn.Sequential, nn.ModuleList)) or (most and any(module.children()))
        if sequence or not inner:
            return path
    return "" if module is model or any(True for _ in module.children()) else path


def schedule_depends_on_epochs(config: Config) -> bool:
    """Whether the learning rate at a step would be another if `epochs` were."""
    if config.schedule.target is None:
        return False
    parameters = inspect.signature(resolve(config.schedule.target, "schedule")).parameters
    return any(name in parameters and config.schedule.arguments.get(name) is None for name in SCHEDULE_LENGTHS)


def build_schedule(config: Config, optimizer: Optimizer, steps_per_epoch: int) -> Schedule:
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


def _try_schedule(part: ComponentConfig, given: dict[str, Any]) -> None:
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
