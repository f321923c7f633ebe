"""Fully connected networks on flattened inputs."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class ANN(nn.Module):
    """One hidden layer: `[B, ...] -> [B, num_outputs]`.

    Dropout follows the activation and never the output: a logit that is dropped is a coin toss, not a regulariser.

    Args:
        in_features: numbers per sample once flattened.
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
    """784-50-20-10: ReLU then BatchNorm after the first layer, ReLU then LayerNorm after the second.

    `[B, ...] -> [B, num_outputs]`; `in_features` numbers per sample once flattened.
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
