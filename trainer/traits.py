"""Types of devices and their capabilities, and the number of cores. Does not import torch."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Traits:
    """The capabilities of a type of device.

    Attributes:
        label: name of the type in messages.
        numbered: whether there may be several, as in `cuda:1`; torch reports the names and memory of such devices.
        float64: whether it supports float64.
        fused_optimizers: whether torch has fused optimizers for it.
        pin_memory: whether copies from pinned memory overlap with computation.
        asynchronous: whether calls return before their kernels have finished; true for accelerators only.
        profiled: whether torch.profiler records its kernels.
    """

    label: str
    numbered: bool = False
    float64: bool = True
    fused_optimizers: bool = True
    pin_memory: bool = False
    asynchronous: bool = True
    profiled: bool = False


# By the name of torch's module, in the order in which `device=auto` looks for them.
TRAITS = {
    "cuda": Traits("CUDA device", numbered=True, pin_memory=True, profiled=True),
    "mps": Traits("Apple GPU", float64=False),
    "cpu": Traits("CPU", asynchronous=False),
}


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
