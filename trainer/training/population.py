"""Forward and backward pass for the runs that train together.

Shape letters: R runs (absent for a single run), B samples, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trainer.data.batches import Batch
from trainer.data.streams import ALL, TORCH, seed_streams
from trainer.seeds import derive
from trainer.training.dropout import SeededDropout, may_draw
from trainer.training.forward import forward
from trainer.training.phases import phase
from trainer.training.state import RunState
from trainer.training.sums import RunningSums


class Criterion(Protocol):
    """Mean loss of a batch, and what its sum was divided by."""

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Return the mean loss [] of outputs [B, C] and targets."""

    def denominator(self, targets: Tensor) -> Tensor | int:
        """Return the sum of the samples' weights []: their number without class weights."""


class Population(Protocol):
    """The runs that train together, and their arithmetic.

    Attributes:
        states: the runs that have not ended.
        sums: the running sums of these runs.
        device: where all tensors are.
        batch_axis: the axis of samples in targets: 0, or 1 if each run has samples of its own.
    """

    states: list[RunState]
    sums: RunningSums
    device: torch.device
    batch_axis: int

    def train(self) -> None:
        """Switch to training mode; frozen modules stay in evaluation mode."""

    def eval(self) -> None:
        """Switch to evaluation mode, with the averaged weights if there are any."""

    def weight(self, targets: Tensor) -> Tensor | int:
        """Return the denominator of a batch's mean loss: the sum of class weights [R], or the number of samples."""

    def objective(self, batch: Batch, weight: Tensor | int, share: Tensor | float | None, micro: int) -> Tensor:
        """Return the scalar to differentiate for a batch, and add the batch to `sums`.

        Args:
            batch: inputs and targets on the device.
            weight: what `weight` returned for its targets.
            share: the weight [R] of the batch's mean loss in that of the whole step; None stands for 1.
            micro: the index of the batch within its step.
        """

    def update(self) -> None:
        """Clip the gradients, step the optimizers, and reset the gradients."""

    def outputs(self, inputs: Tensor) -> Tensor:
        """Return outputs [R, B, C] in full precision: bfloat16 has three decimal digits, too few for a loss."""

    def metrics(self, outputs: Tensor, targets: Tensor) -> list[dict[str, float | None]]:
        """Return the loss and the task's other metrics over a whole split, one dict per run."""

    def remove(self, leaving: Collection[RunState]) -> None:
        """Remove these runs. Their states stay usable, and the others keep their gradients."""


class SingleRun:
    """A population of one run, whose model is called directly. See Population for the methods.

    Args:
        state: the run; it stays accessible here after it has ended.
        criterion: returns the mean loss [] of outputs [B, C] and targets [B].
        precision: the configured precision; bfloat16 and float16 use autocast.
        dropouts: the model's dropout layers, whose position is set before each forward pass.
        compiled: called in place of `state.model` in training.
        head: path of the only module that is called, if the features before it are cached (`components/features.py`).
    """

    batch_axis = 0

    def __init__(
        self,
        state: RunState,
        criterion: Criterion,
        *,
        precision: str = "float32",
        dropouts: Sequence[SeededDropout] = (),
        compiled: Callable[[Tensor], Any] | None = None,
        head: str = "",
    ) -> None:
        self.states, self.state = [state], state
        self.criterion, self.precision, self.dropouts, self.head = criterion, precision, dropouts, head
        self.trained: Callable[[Tensor], Any] = state.model.get_submodule(head) if compiled is None else compiled
        self.call = self.trained
        self.auxiliary_weight: float = getattr(state.model, "auxiliary_weight", 1.0)
        self.sums = state.sums
        self.device = state.sums.device
        # No code of torch or of this program draws from Python's and NumPy's streams; seeding them takes 6 us.
        own_code = state.config.own_code.keys() & {"model", "loss", "optim", "schedule"}
        self.streams = ALL if own_code else TORCH if may_draw(state.model) else frozenset()

    def train(self) -> None:
        self.call = self.trained
        self.state.model.train()
        for module in self.state.frozen.modules:
            module.eval()

    def eval(self) -> None:
        state = self.state
        self.call = self.trained if state.average is None else state.average.module.get_submodule(self.head)
        state.evaluated.eval()

    def remove(self, leaving: Collection[RunState]) -> None:
        self.states = [state for state in self.states if state not in leaving]

    def weight(self, targets: Tensor) -> Tensor | int:
        return self.criterion.denominator(targets)

    def objective(self, batch: Batch, weight: Tensor | int, share: Tensor | float | None, micro: int) -> Tensor:
        inputs, targets = batch
        with phase("forward"):
            outputs, loss = self.forward(inputs, targets, micro)
        with phase("metrics"):
            self.sums.add(loss.detach(), outputs.detach(), targets, weight)
        return self.state.scaler.scale(loss if share is None else loss * share)

    def forward(self, inputs: Tensor, targets: Tensor, micro: int = 0) -> tuple[Tensor, Tensor]:
        """Return outputs [B, C] and the mean loss [] of a training batch."""
        if self.streams:
            seed_streams(derive(self.state.config.seed, "step", self.state.step, micro), self.streams, self.device)
        for dropout in self.dropouts:
            dropout.position = (self.state.step, micro)
        outputs, *auxiliary = self._call(inputs)
        loss = self.criterion(outputs, targets)
        for auxiliary_outputs in auxiliary:
            auxiliary_loss = self.auxiliary_weight * self.criterion(auxiliary_outputs, targets)
            # Adds gradients only: the reported loss is that of the main head.
            loss = loss + (auxiliary_loss - auxiliary_loss.detach())
        return outputs, loss

    def update(self) -> None:
        for state in self.states:
            _clip(state)
            state.scaler.step(state.optimizer)
            state.scaler.update()
            for group in state.optimizer.param_groups:  # zero_grad() marks itself for profilers, for 15 us a step
                for parameter in group["params"]:
                    parameter.grad = None

    def outputs(self, inputs: Tensor) -> Tensor:
        return self._call(inputs)[0]

    def metrics(self, outputs: Tensor, targets: Tensor) -> list[dict[str, float | None]]:
        return [{"loss": self.criterion(outputs, targets).item(), **self.sums.task.metrics(outputs, targets)}]

    def _call(self, inputs: Tensor) -> Sequence[Tensor]:
        """Return the outputs, followed by those of the auxiliary heads that some models have in training."""
        return forward(self.call, inputs, self.device, self.precision)


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
