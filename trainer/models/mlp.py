"""Fully connected networks on flattened inputs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class ANN(nn.Module):
    """A network with one hidden layer: `[B, ...] -> [B, num_outputs]`.

    Dropout follows the activation and never the output: dropping a logit adds noise to the prediction itself.

    Args:
        in_features: numbers per flattened sample.
        num_outputs: outputs per sample.
        hidden: units of the hidden layer.
        dropout: probability of dropping a hidden unit.
    """

    def __init__(self, in_features: int = 784, num_outputs: int = 1, hidden: int = 30, dropout: float = 0.3) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_features, hidden)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.output(self.dropout(F.relu(self.hidden(inputs.flatten(1)))))


class MNISTClassifier(nn.Module):
    """A network 784-50-20-10 with ReLU, followed by BatchNorm in the first layer and LayerNorm in the second.

    `[B, ...] -> [B, num_outputs]`, with `in_features` numbers per flattened sample.
    """

    def __init__(self, in_features: int = 784, num_outputs: int = 10) -> None:
        super().__init__()
        self.layer1 = nn.Linear(in_features, 50)
        self.norm1 = nn.BatchNorm1d(50)
        self.layer2 = nn.Linear(50, 20)
        self.norm2 = nn.LayerNorm(20)
        self.output = nn.Linear(20, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.norm1(F.relu(self.layer1(inputs.flatten(1))))
        return self.output(self.norm2(F.relu(self.layer2(hidden))))


class Perceptron(nn.Module):
    """One neuron with a sigmoid: `[B, ...] -> [B, 1]`, the probability of class 1."""

    def __init__(self, in_features: int = 2, num_outputs: int = 1) -> None:
        super().__init__()
        if num_outputs != 1:
            raise ValueError(f"a perceptron has one output, but the task needs {num_outputs}")
        self.neuron = nn.Linear(in_features, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.neuron(inputs.flatten(1)).sigmoid()


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
NORMS: dict[str, type[nn.Module] | None] = {"none": None, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
FINALS: dict[str, nn.Module | None] = {
    "none": None,
    "sigmoid": nn.Sigmoid(),
    "softmax": nn.Softmax(dim=1),
    "log_softmax": nn.LogSoftmax(dim=1),
}


class MLP(nn.Sequential):
    """Hidden layers of linear, norm, activation and dropout, then a linear one: `[B, ...] -> [B, num_outputs]`.

    Args:
        in_features: numbers per flattened sample.
        num_outputs: outputs per sample.
        hidden: width of each hidden layer.
        activation: one of `ACTIVATIONS`; `none` makes the whole network linear.
        slope: the slope of leaky_relu below 0.
        norm: none, batch or layer, before the activation.
        dropout: probability of dropping a hidden unit.
        final: sigmoid, softmax or log_softmax on the output; `output` in the YAML must match.

    Raises:
        ValueError: the activation, norm or final layer is unknown.
    """

    def __init__(
        self,
        in_features: int = 2,
        num_outputs: int = 1,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        slope: float = 0.01,
        norm: str = "none",
        dropout: float = 0.0,
        final: str = "none",
    ) -> None:
        for name, value, choices in (
            ("activation", activation, ACTIVATIONS),
            ("norm", norm, NORMS),
            ("final", final, FINALS),
        ):
            if value not in choices:
                raise ValueError(f"{name}={value}: expected one of {', '.join(choices)}")
        layers: list[nn.Module] = [nn.Flatten()]
        width = in_features
        for units in hidden:
            layers.append(nn.Linear(width, units))
            if (kind := NORMS[norm]) is not None:
                layers.append(kind(units))
            layers.append(nn.LeakyReLU(slope) if activation == "leaky_relu" else ACTIVATIONS[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = units
        layers.append(nn.Linear(width, num_outputs))
        if (last := FINALS[final]) is not None:
            layers.append(last)
        super().__init__(*layers)
