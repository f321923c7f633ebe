"""Heads: the last layers of a model, and their replacement."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn

ENDINGS: dict[str, type[nn.Module]] = {
    "log_probabilities": nn.LogSoftmax,
    "probabilities": nn.Softmax,
}


def last_layer(model: nn.Module) -> str:
    """Return the path of the last module with parameters of its own; in a classifier, its last linear layer."""
    return [path for path, m in model.named_modules() if any(True for _ in m.parameters(recurse=False))][-1]


def replace_head(model: nn.Module, path: str, head: nn.Module) -> None:
    """Replace the module at `path` by `head`. Mutates `model`."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, head)


def mlp_head(
    in_features: int, num_outputs: int, hidden: int | Sequence[int], dropout: float | Sequence[float]
) -> nn.Sequential:
    """Return linear layers with ReLU between them: `[B, in_features] -> [B, num_outputs]`.

    Args:
        in_features: numbers per sample.
        num_outputs: outputs per sample.
        hidden: sizes of the hidden layers.
        dropout: probability of dropout before the last layer, or one probability for each layer's inputs.

    Raises:
        ValueError: there is neither one probability nor one for each layer.
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
