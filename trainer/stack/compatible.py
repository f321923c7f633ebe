"""Which runs can be stacked: what a stack does not hold for each run must be the same for all."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from trainer.components.assemble import Components
from trainer.training.dropout import SeededDropout

MODULES_OWN = frozenset(vars(nn.Module()))


def stack_signature(parts: Components) -> tuple[Any, ...]:
    """Equal for runs that can be stacked: the same layers with the same settings, tensors, batches and moment.

    The forward pass of a stack runs in a copy of the first run's modules, so whatever they compute with besides
    parameters and buffers is the first run's. `KeyedDropout` alone knows each run's own.
    """
    model, state = parts.state.model, parts.state
    return (
        state.step,
        [(name, type(module)) for name, module in model.named_modules()],
        [(name, tensor.shape, tensor.dtype) for name, tensor in (*model.named_parameters(), *model.named_buffers())],
        (parts.train.sizes, parts.valid.sizes),
        [_settings(module, {id(m) for m in model.modules()}) for module in model.modules()],
    )


def _settings(module: nn.Module, known: set[int]) -> Any:
    if isinstance(module, SeededDropout):
        return None
    return {name: _plain(value, known) for name, value in vars(module).items() if name not in MODULES_OWN}


def _plain(value: Any, known: set[int]) -> Any:
    """To be compared by `==`: tensors by their content, objects by what they hold, all else by itself.

    Args:
        known: ids of what is compared elsewhere, or further out.
    """
    if isinstance(value, Tensor):
        return ("tensor", value.dtype, value.tolist())
    if isinstance(value, Mapping):
        return [(key, _plain(item, known)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [_plain(item, known) for item in value]
    if isinstance(value, functools.partial):
        return [_plain(item, known) for item in (value.func, value.args, value.keywords)]
    if id(value) in known:
        return None
    if (hasattr(value, "__dict__") and not callable(value)) or isinstance(value, nn.Module):
        return (type(value), _plain(vars(value), known | {id(value)}))
    return value
