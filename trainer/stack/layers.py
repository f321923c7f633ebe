"""Layers for which plain `torch.func.vmap` would be slow or wrong.

Shape letters: R runs, B samples, I inputs and O outputs of a layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.training.dropout import SeededDropout


class StackedLinear(nn.Linear):
    """`nn.Linear` under vmap.

    Samples that all runs share become one large matrix product with all weights; vmap would copy the samples R times.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        return _Linear.apply(inputs, self.weight, self.bias)


class _Linear(torch.autograd.Function):
    """`F.linear` with a rule for vmap; autograd differentiates the operations of that rule."""

    generate_vmap_rule = False

    @staticmethod
    def forward(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(inputs, weight, bias)

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Any, ...], output: Tensor) -> None: ...

    @staticmethod
    def vmap(info: Any, in_dims: Any, inputs: Tensor, weight_ROI: Tensor, bias_RO: Tensor | None) -> Any:
        num_runs, wide, narrow = weight_ROI.shape
        if in_dims[0] is None:
            flat = F.linear(inputs, weight_ROI.reshape(-1, narrow), None if bias_RO is None else bias_RO.reshape(-1))
            return flat.unflatten(-1, (num_runs, wide)), inputs.ndim - 1
        inputs = inputs.movedim(in_dims[0], 0)
        rows = inputs.reshape(num_runs, -1, narrow)
        if torch.is_autocast_enabled(inputs.device.type):
            product = rows @ weight_ROI.transpose(1, 2)
            outputs = product if bias_RO is None else product + bias_RO.to(product.dtype)[:, None]
        else:
            outputs = _Product.apply(rows, weight_ROI, bias_RO)
        return outputs.reshape(*inputs.shape[:-1], wide), 0


class _Product(torch.autograd.Function):
    """The product of [R, B, I] and [R, O, I], whose weight gradient is contiguous; that of torch is transposed."""

    @staticmethod
    def forward(context: Any, rows_RBI: Tensor, weight_ROI: Tensor, bias_RO: Tensor | None) -> Tensor:
        context.save_for_backward(rows_RBI, weight_ROI)
        if bias_RO is None:
            return torch.bmm(rows_RBI, weight_ROI.transpose(1, 2))
        return torch.baddbmm(bias_RO[:, None], rows_RBI, weight_ROI.transpose(1, 2))

    @staticmethod
    def backward(context: Any, gradient_RBO: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows_RBI, weight_ROI = context.saved_tensors
        for_rows, for_weight, for_bias = context.needs_input_grad
        return (
            torch.bmm(gradient_RBO, weight_ROI) if for_rows else None,
            torch.bmm(gradient_RBO.transpose(1, 2), rows_RBI) if for_weight else None,
            gradient_RBO.sum(1) if for_bias else None,
        )


class StackedDropout(nn.Module):
    """The `SeededDropout` layers of all runs under vmap, with the masks that each draws alone.

    Attributes:
        layer: path of the layer in the model.
        runs: the layer of each run.
        marker: a tensor [R] that is mapped over runs: inputs that all runs share carry no such dimension.
    """

    marker: Tensor

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer
        self.runs: list[SeededDropout] = []

    def forward(self, inputs: Tensor) -> Tensor:
        return _Dropout.apply(inputs, self.marker, self.runs) if self.training else inputs


class _Dropout(torch.autograd.Function):
    """The dropout of each run by its own layer, with a rule for vmap."""

    generate_vmap_rule = False

    @staticmethod
    def forward(inputs: Tensor, marker: Tensor, runs: list[SeededDropout]) -> Tensor:
        raise AssertionError("StackedDropout is only called under vmap")

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Any, ...], output: Tensor) -> None: ...

    @staticmethod
    def vmap(info: Any, in_dims: Any, inputs: Tensor, marker_R: Tensor, runs: list[SeededDropout]) -> Any:
        inputs = inputs.expand(len(runs), *inputs.shape) if in_dims[0] is None else inputs.movedim(in_dims[0], 0)
        factors = torch.empty(inputs.shape, dtype=inputs.dtype, device=inputs.device)
        for run, dropout in enumerate(runs):
            dropout.fill(factors[run])
        return inputs * factors, 0


def stackable(model: nn.Module) -> list[StackedDropout]:
    """Replace a model's layers by those of this module, and return the dropout layers. Mutates `model`."""
    dropouts: list[StackedDropout] = []
    for module in list(model.modules()):
        if type(module) is nn.Linear:
            # Keeps parameters, hooks and path. 64 runs of 784-50 take 11 ms a step on a core, 16 ms with nn.Linear.
            module.__class__ = StackedLinear
        for name, child in list(module.named_children()):
            if isinstance(child, SeededDropout):
                dropouts.append(StackedDropout(child.layer))
                setattr(module, name, dropouts[-1])
    return dropouts
