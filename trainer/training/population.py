"""Forward and backward pass for the runs that train together.

Shape letters: R runs (absent where one run trains alone), B samples, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trainer.training.dropout import SeededDropout
from trainer.training.forward import forward
from trainer.training.freeze import FrozenParameters
from trainer.training.state import RunState
from trainer.training.sums import RunningSums

Criterion = Callable[[Tensor, Tensor], Tensor]


class Population(Protocol):
    """The runs that train together, and their arithmetic.

    Attributes:
        states: of the runs that are still in it.
        sums: of the same runs.
        batch_axis: of targets; 1 where each run has samples of its own.
    """

    states: list[RunState]
    sums: RunningSums
    device: torch.device
    batch_axis: int

    def train(self) -> None:
        """Training mode, frozen modules excepted."""

    def eval(self) -> None:
        """Evaluation mode, of the averaged weights where there are any."""

    def unfreeze(self) -> None:
        """Trains from now on what was frozen."""

    def samples(self, targets: Tensor) -> int:
        """In a batch, of each run."""

    def weight(self, targets: Tensor) -> Tensor | int:
        """What a batch counts for in a mean loss: the weights of its samples' classes [R], or its samples' number."""

    def select_per_run(self, batch: Tensor) -> Tensor:
        """[R, B, ...] where each run has samples of its own; as it is where all share them."""

    def forward(self, inputs: Tensor, targets: Tensor, micro: int = 0) -> tuple[Tensor, Tensor]:
        """Outputs [R, B, C] and mean losses [R] of a training batch, the `micro`-th of its optimizer step."""

    def objective(self, loss: Tensor) -> Tensor:
        """The scalar to differentiate."""

    def update(self) -> None:
        """Clips the gradients, steps the optimizers, forgets the gradients."""

    def outputs(self, inputs: Tensor) -> Tensor:
        """Outputs [R, B, C], in full precision: bfloat16 has three decimal digits, too few for a loss."""

    def losses(self, outputs: Tensor, targets: Tensor) -> list[float]:
        """The loss of each run over a whole part."""

    def figures(self, outputs: Tensor, targets: Tensor) -> list[dict[str, float | None]]:
        """What else is said of a whole part, of each run."""

    def remove(self, leaving: Collection[RunState]) -> None:
        """These runs are in it no longer; their states stay whole, the others go on as they are."""


class SingleRun:
    """A population of one: the model is called as it is.

    Attributes:
        state: of the run, also once it has left.

    Args:
        criterion: mean loss of outputs [B, C] and targets [B].
        frozen: what is held, and stays in eval mode.
        compiled: what is called in place of `state.model`.
        head: path of the module that alone is called, where the features before it are kept (`features.py`).
    """

    def __init__(
        self,
        state: RunState,
        criterion: Criterion,
        device: torch.device,
        *,
        precision: str = "float32",
        frozen: FrozenParameters | None = None,
        dropouts: Sequence[SeededDropout] = (),
        compiled: Callable[[Tensor], Any] | None = None,
        head: str = "",
    ) -> None:
        self.states, self.state = [state], state
        self.batch_axis = 0
        self.criterion, self.device, self.precision = criterion, device, precision
        self.frozen, self.dropouts = frozen or FrozenParameters(), dropouts
        self.head = head
        self.trained: Callable[[Tensor], Any] = state.model.get_submodule(head) if compiled is None else compiled
        self.call = self.trained
        self.auxiliary_weight: float = getattr(state.model, "auxiliary_weight", 1.0)
        self.sums = state.sums

    def train(self) -> None:
        self.call = self.trained
        self.state.model.train()
        for module in self.frozen.modules:
            module.eval()

    def unfreeze(self) -> None:
        self.frozen.unfreeze()
        self.train()

    def remove(self, leaving: Collection[RunState]) -> None:
        self.states = [state for state in self.states if state not in leaving]

    def eval(self) -> None:
        state = self.state
        self.call = self.trained if state.average is None else state.average.module.get_submodule(self.head)
        state.evaluated.eval()

    def samples(self, targets: Tensor) -> int:
        return len(targets)

    def weight(self, targets: Tensor) -> Tensor | int:
        return weight_of(self.criterion, targets)

    def select_per_run(self, batch: Tensor) -> Tensor:
        return batch

    def forward(self, inputs: Tensor, targets: Tensor, micro: int = 0) -> tuple[Tensor, Tensor]:
        """Outputs [B, C] and mean loss [] of a training batch."""
        for dropout in self.dropouts:
            dropout.position = (self.state.step, micro)
        outputs, *auxiliary = self._call(inputs)
        loss = self.criterion(outputs, targets)
        for extra in auxiliary:
            further = self.auxiliary_weight * self.criterion(extra, targets)
            loss = loss + (further - further.detach())  # moves the weights and is not seen in the loss
        return outputs, loss

    def objective(self, loss: Tensor) -> Tensor:
        return self.state.scaler.scale(loss)

    def update(self) -> None:
        for state in self.states:
            _clip(state)
            state.scaler.step(state.optimizer)
            state.scaler.update()
            state.optimizer.zero_grad()

    def outputs(self, inputs: Tensor) -> Tensor:
        """Outputs [B, C]."""
        return self._call(inputs)[0]

    def losses(self, outputs: Tensor, targets: Tensor) -> list[float]:
        return [self.criterion(outputs, targets).item()]

    def figures(self, outputs: Tensor, targets: Tensor) -> list[dict[str, float | None]]:
        return [self.sums.task.figures(outputs, targets)]

    def _call(self, inputs: Tensor) -> Sequence[Tensor]:
        """The outputs, and those of auxiliary heads that some models have in training."""
        return forward(self.call, inputs, self.device, self.precision)


def weight_of(criterion: Criterion, targets: Tensor) -> Tensor | int:
    """By how much the mean loss of these targets was divided; torch divides by the number where they are shares [B, C].

    A [] tensor where classes have weights.
    """
    weights = getattr(criterion, "class_weights", None)
    return len(targets) if weights is None or targets.ndim == 2 else weights[targets].sum()


def _clip(state: RunState) -> None:
    norm, value = state.config.clip_norm, state.config.clip_value
    if norm is None and value is None:
        return
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    state.scaler.unscale_(state.optimizer)
    if value is not None:
        nn.utils.clip_grad_value_(parameters, value)
    if norm is not None:
        nn.utils.clip_grad_norm_(parameters, norm)
