"""Initialise weights with the named schemes of torch.nn.init; the gain follows the activation."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

# Activations without a gain in torch, and the nearest that has one.
GAINS = {"none": "linear", "elu": "relu", "silu": "relu", "gelu": "relu"}


def initialise(model: nn.Module, name: str | None, activation: str = "relu", bound: float = 0.05) -> None:
    """Draw the weights of all linear and convolutional layers from torch's global stream; set their biases to 0.

    None keeps the initialisation of the layers. `activation` follows the layers and decides the gain.
    """
    if name is None:
        return
    fill = _filler(name, GAINS.get(activation, activation), bound)
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            fill(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _filler(name: str, nonlinearity: str, bound: float) -> Callable[[Tensor], Tensor]:
    gain = nn.init.calculate_gain(nonlinearity)  # type: ignore[arg-type]
    schemes: dict[str, Callable[[Tensor], Tensor]] = {
        "xavier_uniform": lambda w: nn.init.xavier_uniform_(w, gain),
        "xavier_normal": lambda w: nn.init.xavier_normal_(w, gain),
        "kaiming_uniform": lambda w: nn.init.kaiming_uniform_(w, nonlinearity=nonlinearity),  # type: ignore[arg-type]
        "kaiming_normal": lambda w: nn.init.kaiming_normal_(w, nonlinearity=nonlinearity),  # type: ignore[arg-type]
        "lecun_normal": lambda w: nn.init.normal_(w, 0.0, 1 / math.sqrt(nn.init._calculate_correct_fan(w, "fan_in"))),
        "orthogonal": lambda w: nn.init.orthogonal_(w, gain),
        "uniform": lambda w: nn.init.uniform_(w, -bound, bound),
    }
    return schemes[name]
