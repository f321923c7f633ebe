"""The most confident mistakes on a split. Shape letters: N samples, C outputs."""

from __future__ import annotations

from torch import Tensor

from trainer.data.dataset import Split
from trainer.data.tasks import Classification

MOST = 24


def most_confident_mistakes(task: Classification, split: Split, outputs_NC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return positions in the split, predicted classes and their probabilities of the most confident mistakes."""
    predicted_N, probabilities_NC = task.predictions(outputs_NC), task.probabilities(outputs_NC)
    wrong = (predicted_N != split.targets).nonzero().flatten()
    chances = probabilities_NC[wrong, predicted_N[wrong]]
    order = chances.argsort(descending=True)[:MOST]
    return wrong[order], predicted_N[wrong[order]], chances[order]
