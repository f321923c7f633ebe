"""The machine: which device, how many threads, how exact, how much memory is free."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from trainer.errors import Problem, UserError


def choose(name: str) -> torch.device:
    """The device that `device=` names; auto takes cuda, then mps, then cpu.

    Raises:
        UserError: where the device asked for is not there; nothing falls back silently.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            there = f"there are {count} CUDA devices" if count else "torch sees no CUDA device on this machine"
            raise UserError(f"device={name}: {there}. Use device=auto or device=cpu.")
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device=mps: torch sees no Apple GPU on this machine. Use device=auto or device=cpu.")
    return device


@dataclass(frozen=True)
class Traits:
    """What a type of device can do.

    Attributes:
        float64: it computes in float64.
        pin_memory: copies from pinned memory overlap with computing.
        own_stream: it draws random numbers from a generator of its own, whose state is saved.
        memory_statistics: torch counts the memory that it holds on the device.
    """

    float64: bool = True
    pin_memory: bool = False
    fused_optimizers: bool = True
    own_stream: bool = False
    memory_statistics: bool = False


TRAITS = {
    "cpu": Traits(),
    "cuda": Traits(pin_memory=True, own_stream=True, memory_statistics=True),
    "mps": Traits(float64=False),
    "meta": Traits(fused_optimizers=False),
}


def traits(device: torch.device) -> Traits:
    """Return what a device can do."""
    return TRAITS[device.type]


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of weights and inputs for `precision`; autocast's types keep them in float32.

    Raises:
        UserError: the device has no float64.
    """
    if precision != "float64":
        return torch.float32
    if not traits(device).float64:
        reason = f"the device {device.type} has none"
        raise UserError(Problem("precision", reason, given=precision, advice="Use device=cpu."))
    return torch.float64


def loader_workers(configured: int | None) -> int:
    """Return the number of decoding processes: as configured, or one per core, at most 4."""
    return min(4, cores()) if configured is None else configured


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def accelerators() -> list[str]:
    """All CUDA devices, else Apple's GPU, else none."""
    if torch.cuda.is_available():
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return ["mps"] if torch.backends.mps.is_available() else []


def describe(device: torch.device) -> str:
    """As the header names it, a GPU with its product name."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def set_up(threads: int | None, deterministic: bool) -> int:
    """Sets torch's threads and determinism for this process; returns the number of threads in use."""
    if threads is not None:
        torch.set_num_threads(threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    return torch.get_num_threads()


def silence_profiler() -> None:
    """Keeps torch's profiler from reporting on stderr that this machine has no GPU."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def free_memory(device: torch.device) -> int:
    """Bytes free on the device; half of the machine's memory where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    page = os.sysconf("SC_PAGE_SIZE")
    if "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return page * os.sysconf("SC_PHYS_PAGES") // 2
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # counts the cache that the kernel would give back
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return page * os.sysconf("SC_AVPHYS_PAGES")


def peak_memory(device: torch.device) -> int | None:
    """Bytes that torch held on a CUDA device at most; None elsewhere."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
