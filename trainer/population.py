"""Forward and backward pass for the runs that train together. Shape letters: R runs, B samples, C outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trainer.device import autocast
from trainer.dropout import KeyedDropout
from trainer.state import RunState

Criterion = Callable[[Tensor, Tensor], Tensor]


class Solo:
    """A population of one: the model is called as it is.

    Args:
        criterion: mean loss of outputs [B, C] and targets [B].
        frozen: modules that stay in eval mode, so that their statistics hold as their parameters do.
        compiled: what is called in place of `state.model`.
    """

    def __init__(
        self, state: RunState, criterion: Criterion, device: torch.device, *, precision: str = "float32",
        frozen: Sequence[nn.Module] = (), dropouts: Sequence[KeyedDropout] = (),
        compiled: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.states = [state]
        self.criterion, self.device, self.precision = criterion, device, precision
        self.frozen, self.dropouts = frozen, dropouts
        self.call = compiled or state.model

    @property
    def sums(self):
        return self.states[0].sums

    def train(self) -> None:
        self.states[0].model.train()
        for module in self.frozen:
            module.eval()

    def eval(self) -> None:
        self.states[0].model.eval()

    def forward(self, inputs: Tensor, targets: Tensor, micro: int = 0) -> tuple[Tensor, Tensor]:
        """Outputs [R, B, C] and mean losses [R] of a training batch, the `micro`-th of its optimizer step."""
        for dropout in self.dropouts:
            dropout.moment = (self.states[0].step, micro)
        with autocast(self.device, self.precision):
            outputs = self.call(inputs)
        # The loss stays in full precision: bfloat16 has three decimal digits.
        outputs = outputs.float() if self.precision in ("bfloat16", "float16") else outputs
        return outputs.unsqueeze(0), self.criterion(outputs, targets).unsqueeze(0)

    def scaled(self, loss_R: Tensor) -> Tensor:
        """The scalar to differentiate."""
        return self.states[0].scaler.scale(loss_R.sum())

    def outputs(self, inputs: Tensor) -> Tensor:
        """Outputs [R, B, C] without a training loss."""
        with autocast(self.device, self.precision):
            outputs = self.call(inputs)
        return (outputs.float() if self.precision in ("bfloat16", "float16") else outputs).unsqueeze(0)
