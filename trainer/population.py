"""Forward and backward pass for the runs that train together.

Shape letters: R runs (absent where one run trains alone), B samples, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from trainer.dropout import KeyedDropout
from trainer.freeze import Frozen
from trainer.state import RunState

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
Criterion = Callable[[Tensor, Tensor], Tensor]


class Solo:
    """A population of one: the model is called as it is.

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
        frozen: Frozen | None = None,
        dropouts: Sequence[KeyedDropout] = (),
        compiled: Callable[[Tensor], Any] | None = None,
        head: str = "",
    ) -> None:
        self.states = [state]
        self.criterion, self.device, self.precision = criterion, device, precision
        self.frozen, self.dropouts = frozen or Frozen(), dropouts
        self.head = head
        self.trained: Callable[[Tensor], Any] = state.model.get_submodule(head) if compiled is None else compiled
        self.call = self.trained
        self.auxiliary_weight: float = getattr(state.model, "auxiliary_weight", 1.0)
        self.sums = state.sums

    def train(self) -> None:
        """Training mode, frozen modules excepted."""
        self.call = self.trained
        self.states[0].model.train()
        for module in self.frozen.modules:
            module.eval()

    def release(self) -> None:
        """Trains from now on what was frozen."""
        self.frozen.release()
        self.train()

    def eval(self) -> None:
        """Evaluation mode, of the averaged weights where there are any."""
        state = self.states[0]
        self.call = self.trained if state.average is None else state.average.module.get_submodule(self.head)
        state.evaluated.eval()

    def forward(self, inputs: Tensor, targets: Tensor, micro: int = 0) -> tuple[Tensor, Tensor]:
        """Outputs [B, C] and mean loss [] of a training batch, the `micro`-th of its optimizer step."""
        for dropout in self.dropouts:
            dropout.moment = (self.states[0].step, micro)
        outputs, *auxiliary = self._call(inputs)
        loss = self.criterion(outputs, targets)
        for extra in auxiliary:
            further = self.auxiliary_weight * self.criterion(extra, targets)
            loss = loss + (further - further.detach())  # moves the weights and is not seen in the loss
        return outputs, loss

    def scaled(self, loss: Tensor) -> Tensor:
        """The scalar to differentiate."""
        return self.states[0].scaler.scale(loss)

    def outputs(self, inputs: Tensor) -> Tensor:
        """Outputs [B, C], in full precision: bfloat16 has three decimal digits, too few for a loss."""
        return self._call(inputs)[0]

    def _call(self, inputs: Tensor) -> Sequence[Tensor]:
        """The outputs, and those of auxiliary heads that some models have in training."""
        if self.precision not in HALVES:
            outputs = self.call(inputs)
            return (outputs,) if isinstance(outputs, Tensor) else outputs
        with self.autocast():
            outputs = self.call(inputs)
        return [o.float() for o in ((outputs,) if isinstance(outputs, Tensor) else outputs)]

    def autocast(self) -> AbstractContextManager[Any]:
        """The arithmetic of forward passes."""
        half = HALVES.get(self.precision)
        return torch.autocast(self.device.type, half or torch.float32, enabled=half is not None)
