"""Heads: the last layers of a model, found and replaced."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn

ENDINGS: dict[str, type[nn.Module]] = {
    "log_probabilities": nn.LogSoftmax,
    "probabilities": nn.Softmax,
}


def last_layer(model: nn.Module) -> str:
    """The path of the last module with parameters of its own, which in a classifier is its last linear layer."""
    return [path for path, m in model.named_modules() if any(True for _ in m.parameters(recurse=False))][-1]


def replace_head(model: nn.Module, path: str, head: nn.Module) -> None:
    """Puts `head` in the place of the module at `path`; mutates `model`."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, head)


def mlp_head(
    in_features: int, num_outputs: int, hidden: int | Sequence[int], dropout: float | Sequence[float]
) -> nn.Sequential:
    """Linear layers with ReLU between them.

    Args:
        hidden: sizes of the hidden layers.
        dropout: before the last layer, or one for each layer, the first of them before the first layer.
    """
    sizes = [in_features, *([hidden] if isinstance(hidden, int) else hidden), num_outputs]
    rates = [*[0.0] * (len(sizes) - 2), dropout] if isinstance(dropout, (int, float)) else list(dropout)
    if len(rates) != len(sizes) - 1:
        raise ValueError(f"dropout has {len(rates)} numbers; expected one, or one for each of {len(sizes) - 1} layers")
    layers: list[nn.Module] = []
    for number, (into, out) in enumerate(itertools.pairwise(sizes)):
        if rates[number]:
            layers.append(nn.Dropout(rates[number]))
        layers.append(nn.Linear(into, out))
        if number < len(rates) - 1:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
