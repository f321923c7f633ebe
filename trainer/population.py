"""Forward and backward pass for the runs that train together.

Shape letters: R runs (absent where one run trains alone), B samples, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trainer.dropout import KeyedDropout
from trainer.state import RunState

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
Criterion = Callable[[Tensor, Tensor], Tensor]


class Solo:
    """A population of one: the model is called as it is.

    Args:
        criterion: mean loss of outputs [B, C] and targets [B].
        frozen: modules that stay in eval mode, so that their statistics hold as their parameters do.
        compiled: what is called in place of `state.model`.
    """

    def __init__(
        self,
        state: RunState,
        criterion: Criterion,
        device: torch.device,
        *,
        precision: str = "float32",
        frozen: Sequence[nn.Module] = (),
        dropouts: Sequence[KeyedDropout] = (),
        compiled: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.states = [state]
        self.criterion, self.device, self.precision = criterion, device, precision
        self.frozen, self.dropouts = frozen, dropouts
        self.trained = state.model if compiled is None else compiled
        self.call = self.trained

        self.sums = state.sums

    def train(self) -> None:
        """Training mode, frozen modules excepted."""
        self.call = self.trained
        self.states[0].model.train()
        for module in self.frozen:
            module.eval()

    def eval(self) -> None:
        """Evaluation mode, of the averaged weights where there are any."""
        state = self.states[0]
        self.call = self.trained if state.average is None else state.average.module
        state.evaluated.eval()

    def forward(self, inputs: Tensor, targets: Tensor, micro: int = 0) -> tuple[Tensor, Tensor]:
        """Outputs [B, C] and mean loss [] of a training batch, the `micro`-th of its optimizer step."""
        for dropout in self.dropouts:
            dropout.moment = (self.states[0].step, micro)
        outputs = self.outputs(inputs)
        return outputs, self.criterion(outputs, targets)

    def scaled(self, loss: Tensor) -> Tensor:
        """The scalar to differentiate."""
        return self.states[0].scaler.scale(loss)

    def outputs(self, inputs: Tensor) -> Tensor:
        """Outputs [B, C], in full precision: bfloat16 has three decimal digits, too few for a loss."""
        if self.precision not in HALVES:
            return self.call(inputs)
        with torch.autocast(self.device.type, HALVES[self.precision]):
            return self.call(inputs).float()
