"""Devices of this machine, threads, precision and free memory."""

from __future__ import annotations

import os

import torch

from trainer.errors import Problem, UserError
from trainer.traits import TRAITS, Traits, cores


def traits(device: torch.device) -> Traits:
    """Return the capabilities of a device."""
    return TRAITS[device.type]


def _count(kind: str) -> int:
    """Return the number of devices of a type in the machine."""
    module = torch.get_device_module(kind)
    return module.device_count() if module.is_available() else 0


def accelerators() -> list[str]:
    """Return the names of all devices of the first type of accelerator that the machine has; empty if it has none."""
    for kind, entry in TRAITS.items():
        if entry.asynchronous and (count := _count(kind)):
            return [f"{kind}:{i}" for i in range(count)] if entry.numbered else [kind]
    return []


def choose(name: str | None = None) -> torch.device:
    """Return the device that `device=` names; without a name, the first accelerator, else the CPU.

    Raises:
        UserError: the device does not exist; nothing falls back silently.
    """
    if name is None:
        return torch.device((accelerators() or ["cpu"])[0])
    device = torch.device(name)
    own, count = traits(device), _count(device.type)
    if (device.index or 0) >= count:
        plural = "s" if count > 1 else ""
        reason = f"there {'are' if plural else 'is'} {count} {own.label}{plural}"
        if not count:
            reason = f"torch sees no {own.label} on this machine"
        raise UserError(Problem("device", reason, given=name, advice="Use device=auto or device=cpu."))
    return torch.device(device.type, device.index or 0) if own.numbered else device


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 for a device that has no float64."""
    return torch.float64 if traits(device).float64 else torch.float32


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all work."""
    if traits(device).asynchronous:
        torch.get_device_module(device).synchronize()


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


def describe(device: torch.device) -> str:
    """Return the device's name as the header shows it, with the product name of a GPU."""
    if not traits(device).numbered:
        return str(device)
    return f"{device} ({torch.get_device_module(device).get_device_name(device)})"


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
    if traits(device).numbered:
        return torch.get_device_module(device).mem_get_info(device)[0]
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
    return torch.get_device_module(device).max_memory_allocated(device) if traits(device).numbered else None
