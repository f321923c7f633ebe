"""Compatibility of the runs of a stack: whatever a stack does not hold for each run must be equal for all."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from trainer.components.assemble import Components
from trainer.training.dropout import SeededDropout

MODULES_OWN = frozenset(vars(nn.Module()))

T = TypeVar("T")


def grouped(items: Iterable[T], key: Callable[[T], Any]) -> list[list[T]]:
    """Return the items in groups with equal keys, in the order of their first items. Keys need not be hashable."""
    groups: list[tuple[Any, list[T]]] = []
    for item in items:
        value = key(item)
        group = next((group for other, group in groups if other == value), None)
        if group is None:
            groups.append((value, group := []))
        group.append(item)
    return [group for _, group in groups]


def stack_signature(components: Components) -> tuple[Any, ...]:
    """Return a key that is equal for runs that can be stacked: same step, layers, settings, shapes and batches.

    The forward pass of a stack runs in a copy of the first run's modules, so all settings except parameters and
    buffers are the first run's; only `SeededDropout` has settings of each run. The trial step (`stack/trial.py`)
    cannot replace this comparison: it tries two runs of each kind and cannot see that a third one has another setting.
    """
    model, state = components.state.model, components.state
    return (
        state.step,
        [(name, type(module)) for name, module in model.named_modules()],
        [(name, tensor.shape, tensor.dtype) for name, tensor in (*model.named_parameters(), *model.named_buffers())],
        (components.train.sizes, components.valid.sizes),
        [_settings(module, {id(m) for m in model.modules()}) for module in model.modules()],
    )


def _settings(module: nn.Module, compared: set[int]) -> Any:
    if isinstance(module, SeededDropout):
        return None
    return {name: _comparable(value, compared) for name, value in vars(module).items() if name not in MODULES_OWN}


def _comparable(value: Any, compared: set[int]) -> Any:
    """Return a value that compares by content: tensors by their numbers, objects by their attributes.

    Args:
        value: any attribute of a module.
        compared: ids of objects that are compared elsewhere, or that contain this one.
    """
    if isinstance(value, Tensor):
        return ("tensor", value.dtype, value.tolist())
    if isinstance(value, Mapping):
        return [(key, _comparable(item, compared)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [_comparable(item, compared) for item in value]
    if isinstance(value, functools.partial):
        return [_comparable(item, compared) for item in (value.func, value.args, value.keywords)]
    if id(value) in compared:
        return None
    if (hasattr(value, "__dict__") and not callable(value)) or isinstance(value, nn.Module):
        return (type(value), _comparable(vars(value), compared | {id(value)}))
    return value
