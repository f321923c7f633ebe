"""How long the steps of a run take, measured on a copy of it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence

import torch

from trainer.components.assemble import Components
from trainer.data.batches import Batch
from trainer.training.loop import grouped
from trainer.training.population import Population
from trainer.training.step import train_step

SECONDS = 1.0  # of training, to measure a kind of job,


def measure(
    parts: Components, step: Callable[[Population, Sequence[Batch]], None] = train_step, limit: float = SECONDS
) -> tuple[float, int]:
    """Seconds of an epoch with its validation, and bytes of a checkpoint; trains for `limit` seconds or a step.

    Raises:
        NonFinite: as `step` does.
    """
    config, population = parts.config, parts.population
    parts.keep_features(("train", "valid"), lambda what, done, total: None)
    population.train()
    steps, epoch = 0, 0
    for warming in (True, False):
        begin, steps = time.perf_counter(), 0
        while steps == 0 or (not warming and time.perf_counter() - begin < limit):
            for batches in grouped(parts.train.epoch(epoch), config.accumulate):
                step(population, batches)
                steps += 1
                if warming or time.perf_counter() - begin >= limit:
                    break
            epoch += 1
        _finish(parts.device)
    per_step = (time.perf_counter() - begin) / steps
    population.eval()
    begin = time.perf_counter()
    with torch.inference_mode():
        population.outputs(next(iter(parts.valid.epoch(0)))[0])
    _finish(parts.device)
    validation = (time.perf_counter() - begin) * len(parts.valid)
    buffer = io.BytesIO()
    torch.save(parts.state.state_dict(), buffer)
    return per_step * len(parts.train) / config.accumulate + validation, buffer.tell()


def _finish(device: torch.device) -> None:
    """Waits for what the device has still to do."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()
