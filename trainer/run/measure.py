"""The time of training steps and the size of a checkpoint, measured on a copy of a run."""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from trainer.components.assemble import Components
from trainer.data.batches import Batch
from trainer.device import synchronize, traits
from trainer.training.loop import grouped
from trainer.training.step import nonfinite_runs, train_step

SECONDS = 1.0  # of training per measurement


@dataclass(frozen=True)
class Cost:
    """The cost of an epoch.

    Attributes:
        seconds: seconds of an epoch, including its validation.
        checkpoint_bytes: the size of last.pt.
        diverged_after: steps after which the training loss was not finite; None if it stayed finite, or on a GPU.
    """

    seconds: float
    checkpoint_bytes: int
    diverged_after: int | None


def measure(components: Components, limit: float = SECONDS) -> Cost:
    """Train for `limit` seconds, or for one step that takes longer, and return what an epoch would cost.

    Mutates the run, which must not be used afterwards. A loss that is not finite does not end the measurement.
    """
    population = components.population
    components.cache_features(("train", "valid"), lambda what, done, total: None)
    population.train()
    steps = endless_steps(components)
    diverged_after: int | None = None

    def step() -> None:
        nonlocal diverged_after
        train_step(population, next(steps), drop_nonfinite=False)
        if diverged_after is None and not traits(population.device).asynchronous and nonfinite_runs(population):
            diverged_after = components.state.step - 1

    step()  # the first one allocates memory and compiles
    synchronize(components.device)
    begin, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - begin < limit:
        step()
        count += 1
    synchronize(components.device)
    per_step = (time.perf_counter() - begin) / count
    population.eval()
    begin = time.perf_counter()
    with torch.inference_mode():
        population.outputs(next(iter(components.valid.epoch(0)))[0])
    synchronize(components.device)
    validation = (time.perf_counter() - begin) * len(components.valid)
    buffer = io.BytesIO()
    torch.save(components.state.state_dict(), buffer)
    seconds = per_step * len(components.train) / components.config.accumulate + validation
    return Cost(seconds, buffer.tell(), diverged_after)


def endless_steps(components: Components) -> Iterator[list[Batch]]:
    """Yield the micro-batches of one step after another, over as many epochs as needed."""
    for number in itertools.count():
        yield from grouped(components.train.epoch(number), components.config.accumulate)
