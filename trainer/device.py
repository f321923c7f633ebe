"""Devices and their capabilities, threads, precision and free memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.errors import Problem, UserError


@dataclass(frozen=True)
class Traits:
    """The capabilities of a type of device. A new type is an entry of TRAITS, and a name for `device` in the schema.

    Attributes:
        label: name of the type in messages.
        count: number of devices of this type in the machine.
        float64: whether it supports float64.
        fused_optimizers: whether torch has fused optimizers for it.
        pin_memory: whether copies from pinned memory overlap with computation.
        asynchronous: whether calls return before their kernels have finished.
        profiled: whether torch.profiler records its kernels.
        random_state, set_random_state: get and set the state of its generators, from which `F.dropout` and stochastic
            depth draw.
        synchronize: waits until all kernels have finished.
        product: returns the product name of a device.
        free_memory: returns the free bytes of a device.
        peak_memory: returns the largest number of bytes that torch has held on a device.
    """

    label: str
    count: Callable[[], int]
    float64: bool = True
    fused_optimizers: bool = True
    pin_memory: bool = False
    asynchronous: bool = True
    profiled: bool = False
    random_state: Callable[[], Any] | None = None
    set_random_state: Callable[[Any], None] | None = None
    synchronize: Callable[[], None] | None = None
    product: Callable[[torch.device], str] | None = None
    free_memory: Callable[[torch.device], int] | None = None
    peak_memory: Callable[[torch.device], int] | None = None


def _count_cuda() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _set_cuda_state(states: list[Tensor]) -> None:
    if _count_cuda() == len(states):
        torch.cuda.set_rng_state_all(states)


# Accelerators come in the order in which `device=auto` looks for them.
TRAITS = {
    "cuda": Traits(
        "CUDA device",
        _count_cuda,
        pin_memory=True,
        profiled=True,
        random_state=lambda: torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None,
        set_random_state=_set_cuda_state,
        synchronize=torch.cuda.synchronize,
        product=torch.cuda.get_device_name,
        free_memory=lambda device: torch.cuda.mem_get_info(device)[0],
        peak_memory=torch.cuda.max_memory_allocated,
    ),
    "mps": Traits(
        "Apple GPU",
        lambda: int(torch.backends.mps.is_available()),
        float64=False,
        random_state=lambda: torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
        set_random_state=lambda state: torch.mps.set_rng_state(state) if torch.backends.mps.is_available() else None,
        synchronize=torch.mps.synchronize,
    ),
    "cpu": Traits(
        "CPU",
        lambda: 1,
        asynchronous=False,
        random_state=torch.get_rng_state,
        set_random_state=torch.set_rng_state,
    ),
    "meta": Traits("meta device", lambda: 0, fused_optimizers=False, asynchronous=False),
}


def traits(device: torch.device) -> Traits:
    """Return the capabilities of a device."""
    return TRAITS[device.type]


def accelerators() -> list[str]:
    """Return the names of all CUDA devices, else of Apple's GPU; empty if there is neither."""
    for kind, entry in TRAITS.items():
        if entry.asynchronous and (count := entry.count()):
            return [f"{kind}:{i}" for i in range(count)] if entry.product else [kind]
    return []


def choose(name: str) -> torch.device:
    """Return the device that `device=` names; `auto` is the first accelerator, else the CPU.

    Raises:
        UserError: the device does not exist; nothing falls back silently.
    """
    if name == "auto":
        return torch.device((accelerators() or ["cpu"])[0])
    device = torch.device(name)
    own = traits(device)
    count = own.count()
    if (device.index or 0) >= count:
        plural = "s" if count > 1 else ""
        reason = f"there {'are' if plural else 'is'} {count} {own.label}{plural}"
        if not count:
            reason = f"torch sees no {own.label} on this machine"
        raise UserError(Problem("device", reason, given=name, advice="Use device=auto or device=cpu."))
    return torch.device(device.type, device.index or 0) if own.product else device


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 for a device that has no float64."""
    return torch.float64 if traits(device).float64 else torch.float32


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all work."""
    if (wait := traits(device).synchronize) is not None:
        wait()


def random_state() -> dict[str, Any]:
    """Return the states of torch's generators by type of device."""
    states = {kind: entry.random_state() for kind, entry in TRAITS.items() if entry.random_state is not None}
    return {kind: state for kind, state in states.items() if state is not None}


def set_random_state(states: dict[str, Any]) -> None:
    """Restore what `random_state` returned, for the devices that the machine still has."""
    for kind, state in states.items():
        restore = TRAITS[kind].set_random_state
        assert restore is not None
        restore(state)


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of weights and inputs for `precision`; with autocast they stay float32.

    Raises:
        UserError: the device has no float64.
    """
    if precision != "float64":
        return torch.float32
    if not traits(device).float64:
        reason = f"device {device.type} does not support it"
        raise UserError(Problem("precision", reason, given=precision, advice="Use device=cpu."))
    return torch.float64


def loader_workers(configured: int | None) -> int:
    """Return the number of decoding processes: as configured, or one per core, at most 4."""
    return min(4, cores()) if configured is None else configured


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe(device: torch.device) -> str:
    """Return the device's name as the header shows it, with the product name of a GPU."""
    product = traits(device).product
    return f"{device} ({product(device)})" if product else str(device)


def set_up(threads: int | None, deterministic: bool) -> int:
    """Set torch's threads and determinism for this process; return the number of threads in use."""
    if threads is not None:
        torch.set_num_threads(threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    return torch.get_num_threads()


def silence_profiler() -> None:
    """Keep torch's profiler from reporting on stderr that this machine has no GPU."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def free_memory(device: torch.device) -> int:
    """Return the bytes free on the device; half of the machine's memory if the system does not say."""
    if (count := traits(device).free_memory) is not None:
        return count(device)
    page = os.sysconf("SC_PAGE_SIZE")
    if "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return page * os.sysconf("SC_PHYS_PAGES") // 2
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # includes the cache that the kernel can reclaim
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return page * os.sysconf("SC_AVPHYS_PAGES")


def peak_memory(device: torch.device) -> int | None:
    """Return the largest number of bytes that torch has held on the device; None if torch does not count them."""
    count = traits(device).peak_memory
    return count(device) if count else None
