"""Dropout whose masks are a function of (seed, layer, step): nothing is consumed, so nothing is lost on resume."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from trainer.seeds import derive


class SeededDropout(nn.Module):
    """`nn.Dropout` with a mask drawn from a generator seeded by (seed, layer, step, micro-batch, call).

    The inputs [B, ...] are scaled by 1 / (1 - p), as torch does it.
    """

    def __init__(self, p: float, seed: int, layer: str) -> None:
        super().__init__()
        self.p, self.seed, self.layer = p, seed, layer
        self.position = (0, 0)
        self._generator: Generator | None = None

    @property
    def position(self) -> tuple[int, int]:
        """Optimizer step and micro-batch; setting it begins a forward pass."""
        return self._moment

    @position.setter
    def position(self, position: tuple[int, int]) -> None:
        self._moment, self._calls = position, 0

    @torch.compiler.disable
    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return inputs
        return inputs * self.fill(torch.empty(inputs.shape, dtype=inputs.dtype, device=inputs.device))

    def fill(self, factors: Tensor) -> Tensor:
        """Writes what inputs [B, ...] are multiplied by into a contiguous tensor of their shape, and returns it."""
        if self.p == 0:
            return factors.fill_(1)
        if self._generator is None or self._generator.device != factors.device:
            self._generator = Generator(factors.device)
        # A layer that is used twice in one pass draws twice.
        self._generator.manual_seed(derive(self.seed, "dropout", self.layer, *self._moment, self._calls))
        self._calls += 1
        factors.bernoulli_(1 - self.p, generator=self._generator)
        return factors.div_(1 - self.p) if self.p < 1 else factors

    def extra_repr(self) -> str:
        return f"p={self.p}"


def seed_dropout(model: nn.Module, seed: int) -> list[SeededDropout]:
    """Replaces every `nn.Dropout` in `model`, which it mutates; layers are named by their path. Returns the new ones.

    Other modules that draw (`F.dropout`, stochastic depth) use torch's own stream, whose state a checkpoint holds.
    """
    found = [(path, module) for path, module in model.named_modules() if type(module) is nn.Dropout]
    keyed = []
    for path, module in found:
        replacement = SeededDropout(module.p, seed, path).train(module.training)
        parent, _, name = path.rpartition(".")
        if not path:
            continue
        setattr(model.get_submodule(parent), name, replacement)
        keyed.append(replacement)
    return keyed
