"""A network listed layer by layer in YAML."""

from __future__ import annotations

from typing import Any

from torch import nn


def sequential(layers: list[Any]) -> nn.Module:
    """The layers in order, classes of torch.nn: `ReLU`, or with arguments `{Linear: [4, 2]}`, `{Dropout: {p: 0.2}}`.

    Raises:
        ValueError: an entry that is no layer of torch.nn.
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
