"""A model's forward pass in the configured precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

HALF_PRECISION = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return the context for a forward pass: autocast in half precision, otherwise one without effect."""
    dtype = HALF_PRECISION.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def forward(model: Callable[[Tensor], Any], inputs: Tensor, device: torch.device, precision: str) -> Sequence[Tensor]:
    """Return a model's outputs [B, C], followed by those of its auxiliary heads, which some models have in training.

    Outputs of a half-precision pass are converted to float32: bfloat16 has three decimal digits, too few for a loss.
    """
    if precision not in HALF_PRECISION:
        outputs = model(inputs)
        return (outputs,) if isinstance(outputs, Tensor) else outputs
    with autocast(device, precision):
        outputs = model(inputs)
    return [output.float() for output in ((outputs,) if isinstance(outputs, Tensor) else outputs)]
