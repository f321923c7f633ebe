"""Dropout with masks derived from (seed, layer, step), so that a resumed run draws the same ones."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from trainer.seeds import derive

# Layers of torch that draw no random numbers. Layers that are not listed count as drawing.
DRAWLESS = {
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Flatten, nn.Identity, nn.Sequential),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.Softmax, nn.LogSoftmax),
}


class SeededDropout(nn.Module):
    """`nn.Dropout` with a mask drawn from a generator seeded by (seed, layer, step, micro-batch, call).

    As in torch, kept inputs [B, ...] are scaled by 1 / (1 - p).
    """

    def __init__(self, p: float, seed: int, layer: str) -> None:
        super().__init__()
        self.p, self.seed, self.layer = p, seed, layer
        self.position = (0, 0)
        self._generator: Generator | None = None

    @property
    def position(self) -> tuple[int, int]:
        """Optimizer step and micro-batch. Setting it begins a forward pass."""
        return self._position

    @position.setter
    def position(self, position: tuple[int, int]) -> None:
        self._position, self._calls = position, 0

    @torch.compiler.disable
    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return inputs
        return inputs * self.fill(torch.empty(inputs.shape, dtype=inputs.dtype, device=inputs.device))

    def fill(self, factors: Tensor) -> Tensor:
        """Write the factors of inputs [B, ...] into a contiguous tensor of their shape, and return it."""
        if self.p == 0:
            return factors.fill_(1)
        if self._generator is None or self._generator.device != factors.device:
            self._generator = Generator(factors.device)
        # A layer that is called twice in one pass draws two masks.
        self._generator.manual_seed(derive(self.seed, "dropout", self.layer, *self._position, self._calls))
        self._calls += 1
        factors.bernoulli_(1 - self.p, generator=self._generator)
        return factors.div_(1 - self.p) if self.p < 1 else factors

    def extra_repr(self) -> str:
        return f"p={self.p}"


def seed_dropout(model: nn.Module, seed: int) -> list[SeededDropout]:
    """Replace every `nn.Dropout` in `model`, and return the new layers. Mutates `model`.

    Other random modules (`F.dropout`, stochastic depth) draw from torch's global stream, seeded for each batch.
    """
    layers = [(path, module) for path, module in model.named_modules() if type(module) is nn.Dropout]
    seeded = []
    for path, module in layers:
        replacement = SeededDropout(module.p, seed, path).train(module.training)
        parent, _, name = path.rpartition(".")
        if not path:
            continue
        setattr(model.get_submodule(parent), name, replacement)
        seeded.append(replacement)
    return seeded


def may_draw(model: nn.Module) -> bool:
    """Return whether a forward pass of a model after `seed_dropout` may draw from torch's global stream.

    It cannot if each of its modules is a `SeededDropout`, in `DRAWLESS`, or a class of `trainer.models`.
    """
    kinds = {type(module) for module in model.modules()} - DRAWLESS - {SeededDropout}
    return any(not kind.__module__.startswith("trainer.models.") for kind in kinds)
