"""The state of the caller's process: set as in a process of its own while a run is trained, and restored after it."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch.backends import cudnn

from trainer import device
from trainer.config.hydra_state import kept_hydra
from trainer.data.streams import kept_streams
from trainer.files import check_current_folder

_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def isolated() -> Iterator[None]:
    """Train as in a new process, and leave this one as it was.

    The state of a process is shared by its threads: calls from several threads wait for each other, and no other
    thread should change it meanwhile.
    """
    check_current_folder()
    with _ONE_AT_A_TIME, ExitStack() as stack:
        stack.callback(_restore_environment, dict(os.environ))
        stack.callback(sys.path.__setitem__, slice(None), list(sys.path))
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(kept_hydra())
        stack.enter_context(kept_streams())
        stack.enter_context(_torch_as_new())
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())  # as the command does, for a user's own `_target_: mymodule.Net`
        yield


@contextmanager
def kept_accelerators(chosen: str | None) -> Iterator[None]:
    """Restore the random streams of the accelerators on leaving, all of which a run seeds unless it is on the CPU.

    Args:
        chosen: the run's device; None for the first accelerator.
    """
    with ExitStack() as stack:
        for name in device.accelerators() if chosen != "cpu" else ():
            stack.enter_context(kept_streams(torch.device(name)))
        yield


def _restore_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


@contextmanager
def _torch_as_new() -> Iterator[None]:
    """Give torch the settings of a new process, except for its number of threads, and restore them on leaving."""
    threads, dtype, default_device = torch.get_num_threads(), torch.get_default_dtype(), torch.get_default_device()
    deterministic, mode = torch.are_deterministic_algorithms_enabled(), torch.get_deterministic_debug_mode()
    flags = {name: getattr(cudnn, name) for name in ("benchmark", "deterministic", "enabled")}
    torch.set_default_dtype(torch.float32)
    if default_device.type != "cpu":
        torch.set_default_device("cpu")
    cudnn.benchmark, cudnn.deterministic, cudnn.enabled = False, False, True
    try:
        with torch.inference_mode(False), torch.enable_grad(), _without_autocast():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        if default_device.type != "cpu":
            torch.set_default_device(default_device)
        torch.use_deterministic_algorithms(deterministic, warn_only=mode == 1)
        for name, value in flags.items():
            setattr(cudnn, name, value)


@contextmanager
def _without_autocast() -> Iterator[None]:
    with ExitStack() as stack:
        for kind in ("cpu", *({name.partition(":")[0] for name in device.accelerators()})):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield
