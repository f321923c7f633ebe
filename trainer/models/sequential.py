"""A network listed layer by layer in YAML."""

from __future__ import annotations

from typing import Any

from torch import nn


def sequential(layers: list[Any]) -> nn.Module:
    """Return a network of these layers, named as in torch.nn.

    Args:
        layers: names such as `ReLU`, or names with arguments such as `{Linear: [4, 2]}` or `{Dropout: {p: 0.2}}`.

    Raises:
        ValueError: an entry is not a layer of torch.nn.
    """
    return nn.Sequential(*(_layer(entry, number) for number, entry in enumerate(layers, 1)))


def _layer(entry: Any, number: int) -> nn.Module:
    if isinstance(entry, dict) and len(entry) == 1:
        name, arguments = next(iter(entry.items()))
    else:
        name, arguments = entry, []
    kind = getattr(nn, name, None) if isinstance(name, str) else None
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError(f"layer {number} is {entry}; expected a class of torch.nn, such as ReLU or {{Linear: [4, 2]}}")
    if isinstance(arguments, dict):
        return kind(**arguments)
    return kind(*(arguments if isinstance(arguments, list) else [arguments]))
