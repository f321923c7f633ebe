"""How processes that run jobs are started.

On a CPU under Linux a job is forked from the sweep, which has imported torch and read the data once and must
therefore never have used more than one thread: a process forked after parallel arithmetic hangs at its first. With a
GPU, or elsewhere, jobs start from a server process that has imported torch and nothing else.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from multiprocessing.context import BaseContext


def context_for(devices: Sequence[str]) -> BaseContext:
    """How processes are started for work on these devices."""
    if sys.platform == "linux" and all(device == "cpu" for device in devices):
        return multiprocessing.get_context("fork")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer.run"])
    return context
