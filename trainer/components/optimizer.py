"""Build the optimizer with its parameter groups."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from trainer.components.target import Target
from trainer.config.keys import OptimConfig
from trainer.device import traits
from trainer.errors import Problem, UserError
from trainer.training.freeze import head_path, within


def build_optimizer(
    optim: OptimConfig, target: Target, model: nn.Module, device: torch.device, *, frozen_too: bool
) -> Optimizer:
    """Return the optimizer of the trained parameters; the head's group comes first, for metrics.csv.

    torch's fused kernel is used if there is one for the device and the YAML does not choose.

    Args:
        frozen_too: whether to include frozen parameters, which are trained later.

    Raises:
        UserError: layers have learning rates of their own, but `optim.lr` is not set.
    """
    choices = {"fused", "foreach", "differentiable", "capturable"} & set(optim.arguments)
    fused = {} if choices or not traits(device).fused_optimizers else {"fused": True}
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad or frozen_too]
    return target.build(_groups(optim, model, trained), **fused)


def _groups(optim: OptimConfig, model: nn.Module, trained: list[tuple[str, nn.Parameter]]) -> Any:
    """Return parameters by learning rate and weight decay, or a plain list if they are the same for all."""
    if optim.decay_all and optim.backbone_lr is None and optim.layer_decay is None:
        return [p for _, p in trained]
    rates, head = _rates(optim, model, [name for name, _ in trained]), head_path(model)
    groups: dict[tuple[float | None, bool], list[nn.Parameter]] = {}
    for name, parameter in sorted(trained, key=lambda pair: not within(pair[0], head)):
        decays = optim.decay_all or parameter.ndim >= 2
        groups.setdefault((rates.get(name), decays), []).append(parameter)
    return [
        {"params": parameters, **({} if rate is None else {"lr": rate}), **({} if decays else {"weight_decay": 0.0})}
        for (rate, decays), parameters in groups.items()
    ]


def _rates(optim: OptimConfig, model: nn.Module, names: list[str]) -> dict[str, float]:
    """Return the learning rate of each parameter by name; empty if all have the optimizer's own.

    Layers are counted from the head down, see `_layer`.
    """
    backbone_lr, decay = optim.backbone_lr, optim.layer_decay
    if backbone_lr is None and decay is None:
        return {}
    lr = optim.arguments.get("lr")
    if lr is None:
        raise UserError(Problem("optim.lr", "a value is needed for learning rates by layer"))
    head = head_path(model)
    below = [name for name in names if not within(name, head)]
    layers = [layer for layer in dict.fromkeys(_layer(model, name) for name in below) if layer]
    depth = {layer: len(layers) - number for number, layer in enumerate(layers)}
    # Class tokens and position embeddings belong to no layer: they are treated like the lowest one.
    lowest = max(len(layers), 1)
    base = lr if backbone_lr is None else backbone_lr
    return {
        name: lr if within(name, head) else base * (decay or 1.0) ** depth.get(_layer(model, name), lowest)
        for name in names
    }


def _layer(model: nn.Module, name: str) -> str:
    """Return the layer that a parameter belongs to: a child of the model, or of a sequence among its children.

    A child that holds most of the model, such as the encoder of a transformer, is divided further. The layer of a
    parameter outside all of them is an empty string.
    """
    whole = sum(parameter.numel() for parameter in model.parameters())
    module, path = model, ""
    for child in name.split(".")[:-1]:
        sequence = isinstance(module, (nn.Sequential, nn.ModuleList)) and module is not model
        module, path = module.get_submodule(child), f"{path}.{child}" if path else child
        most = 2 * sum(parameter.numel() for parameter in module.parameters()) > whole
        inner = isinstance(module, (nn.Sequential, nn.ModuleList)) or (most and any(module.children()))
        if sequence or not inner:
            return path
    return "" if module is model or any(True for _ in module.children()) else path
