"""Checks of the machine: versions, devices, threads, free memory and disk."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

import torch

from trainer import __version__, device
from trainer.report.findings import Report

LIBRARIES = ("torch", "torchvision", "torchmetrics", "hydra-core", "omegaconf", "numpy", "pillow", "matplotlib")
LITTLE_DISK, NO_DISK, LITTLE_MEMORY = 2e9, 2e8, 1e9  # bytes


def check_machine(report: Report, outputs: Path = Path()) -> None:
    """Report the facts of the machine, and what is short."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    report.fact("machine", trainer=__version__, python=platform.python_version(), system=platform.platform())
    report.fact("machine", **versions)
    accelerators = device.accelerators()
    chosen = device.choose()
    report.fact("machine", device=device.describe(chosen), accelerators=accelerators)
    cores, threads = device.cores(), torch.get_num_threads()
    report.fact("machine", cores=cores, threads=threads)
    report.checks += ["threads", "disk", "memory"]
    if threads > cores:
        message = f"torch would use {threads} threads on {cores} cores"
        report.add("threads", "warning", threads, message, f"set threads={cores}, or OMP_NUM_THREADS={cores}")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 1.5 * cores:
        message = f"about {load:.0f} processes compete for the {cores} cores at this moment"
        report.add("threads", "note", round(load), message, "times measured now are not reliable")
    free_disk, free_memory = shutil.disk_usage(outputs).free, device.free_memory(torch.device("cpu"))
    report.fact("machine", free_disk_bytes=free_disk, free_memory_bytes=free_memory)
    if free_disk < LITTLE_DISK:
        severity = "error" if free_disk < NO_DISK else "warning"
        message = f"{free_disk / 1e9:.1f} GB are free in {outputs.resolve()}"
        report.add("disk", severity, 1, message, "checkpoints need room; free some, or train in another folder")
    if free_memory < LITTLE_MEMORY:
        message = f"{free_memory / 1e9:.1f} GB of memory are free"
        report.add("memory", "warning", 1, message, "torch alone takes 0.8 GB; end other programs")
    if device.traits(chosen).numbered:
        report.fact("machine", free_device_memory_bytes=device.free_memory(chosen))
