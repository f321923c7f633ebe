"""The choice of the jobs of a sweep that are stacked, and of how many at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trainer import device
from trainer.components.assemble import Components
from trainer.config.effects import effects_of, reasons_to_train_alone
from trainer.config.job import Job
from trainer.config.overrides import leaves_of
from trainer.config.schema import Config
from trainer.data.fetch import StreamedFetch
from trainer.data.loader import DataCache
from trainer.errors import RunFailed, UserError
from trainer.processes import run_in_subprocess
from trainer.stack.build import data_key, stacked
from trainer.stack.compatible import grouped, stack_signature
from trainer.stack.progress import most_files
from trainer.stack.trial import MOST_RUNS, build_each, verify_stacked_step
from trainer.training.step import train_step

WORTH = 0.9  # the share of the time of single runs below which a stack is used
MEASURE_SECONDS = 0.3
MEMORY_SHARE = 0.25  # of the free memory, for all stacks together
COPIES = 8  # of a run's weights: gradients, optimizer state, best weights, and temporaries of an update
HINT_FROM = 8  # jobs that can be stacked


@dataclass
class Stacks:
    """The stacks of a sweep.

    Attributes:
        jobs: the job numbers of each stack; a stack of one is a single run.
        lines: lines that explain the decision.
    """

    jobs: list[list[int]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class StackDecision:
    """The number of jobs that are trained at a time.

    Attributes:
        size: runs of a stack; 0 or 1 if the jobs are not stacked.
        reason: the reason, as a clause.
        separate_data: whether the runs of a stack must train on the same samples in the same order.
    """

    size: int
    reason: str
    separate_data: bool = False


def candidates(jobs: Sequence[Job]) -> list[list[int]]:
    """Return groups of two or more jobs, by index, that differ only in keys in which runs of a stack may differ."""
    groups: dict[str, list[int]] = {}
    for index, job in enumerate(jobs):
        leaves = {key: value for key, value in leaves_of(job.stored) if not effects_of(key).stackable}
        leaves["alone"] = list(reasons_to_train_alone(job.config))  # jobs may differ in their reasons to train alone
        groups.setdefault(json.dumps(leaves, sort_keys=True, default=str), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def refusal(config: Config) -> str:
    """Return why jobs of this configuration are not stacked; empty if they can be."""
    return ", ".join(f"{key}={value}" for key, value in reasons_to_train_alone(config).items())


def choose(
    jobs: Sequence[Job],
    numbers: Sequence[int],
    stack: int | None,
    devices: Sequence[str],
    shared: DataCache,
    *,
    trusted: bool,
) -> Stacks:
    """Decide which jobs are stacked. Their numbers of threads must be set.

    Args:
        jobs: the jobs, with their `numbers` in the sweep.
        stack: True, or the maximum number of runs at a time; None decides by a measurement.
        devices: the device of each worker.
        shared: data that is kept for other runs of this process.
        trusted: whether configurations may import code from outside this program.
    """
    stacks = Stacks()
    for group in candidates(jobs):
        members, subject = [jobs[index] for index in group], f"{len(group)} jobs from job {numbers[group[0]]} on"
        decision = StackDecision(0, refusal(members[0].config))
        if not decision.reason:
            try:  # user code and arithmetic with several threads stay out of this process
                decision = run_in_subprocess(devices, _decide, members, stack, len(devices), shared, trusted)
            except RunFailed as failed:
                decision = StackDecision(0, str(failed))
        together = _apart(group, jobs) if decision.separate_data else [group]
        chunks = [chunk for indices in together for chunk in _cut(indices, max(decision.size, 1))]
        stacks.jobs += [[numbers[index] for index in chunk] for chunk in chunks]
        most = max(map(len, chunks))
        how = f"{most} at a time" if most > 1 else "one by one"
        alone = "each reads its own samples"
        stacks.lines.append(
            f"stack      {subject} are trained {how}: {alone if most < 2 <= decision.size else decision.reason}"
        )
    return stacks


def hint(jobs: Sequence[Job]) -> str:
    """Return a line for a sweep that could stack jobs and does not; empty if too few jobs can be stacked."""
    most = max((len(group) for group in candidates(jobs) if not refusal(jobs[group[0]].config)), default=0)
    return "" if most < HINT_FROM else f"hint       sweep.stack=auto may train {most} of these jobs in one pass"


def _apart(group: Sequence[int], jobs: Sequence[Job]) -> list[list[int]]:
    """Return the group divided into jobs that train on the same samples in the same order."""
    return grouped(group, lambda index: data_key(jobs[index].config))


def _cut(indices: Sequence[int], size: int) -> list[list[int]]:
    """Return consecutive chunks of at most `size`, as equal as possible."""
    number = -(-len(indices) // size)
    least, more = divmod(len(indices), number)
    chunks, start = [], 0
    for chunk in range(number):
        end = start + least + (chunk < more)
        chunks.append(list(indices[start:end]))
        start = end
    return chunks


def _decide(
    jobs: Sequence[Job], stack: int | None, num_workers: int, shared: DataCache, trusted: bool
) -> StackDecision:
    """Decide how many of these jobs are stacked at a time. Runs in a child process."""
    try:
        [first] = build_each(jobs[:1], shared, trusted)
        # Runs with streams of their own would need loader workers of their own.
        separate_data = isinstance(first.train.fetch, StreamedFetch)
        together = [jobs[index] for index in max(_apart(range(len(jobs)), jobs), key=len)] if separate_data else jobs
        if len(together) > 1:
            verify_stacked_step(together, shared, trusted)
        most, reason = _most(first, len(jobs), num_workers)
        if stack is not None and stack is not True and stack <= most:
            most, reason = stack, "as configured"
        if len(together) < len(jobs) and len(together) < most:
            most, reason = len(together), "those that read the same samples"
        if stack is None and most > 1:
            most, reason = _measured(together, most, shared, trusted)
    except UserError as error:
        return StackDecision(0, "; ".join(": ".join(filter(None, (p.key, p.reason))) for p in error.problems))
    except Exception as error:  # a model that cannot be stacked can raise any exception
        return StackDecision(0, (str(error).splitlines() or [type(error).__name__])[0])
    return StackDecision(most, reason, separate_data)


def _most(components: Components, num_jobs: int, num_workers: int) -> tuple[int, str]:
    """Return the maximum number of runs at a time, and the limit that sets it."""
    share = -(-num_jobs // num_workers)
    limits = {
        max(_memory(components) // (num_workers * _bytes(components)), 1): "as many as fit in memory",
        max(most_files(), 1): "as many as the limit of open files allows",
        share: f"{num_workers} at once" if num_workers > 1 else "all in one",
    }
    least = min(limits)
    return least, limits[least]


def _measured(jobs: Sequence[Job], most: int, shared: DataCache, trusted: bool) -> tuple[int, str]:
    """Return the number of runs at a time with the fastest step per run, and a reason; 0 if single runs are as fast."""
    sizes = sorted({1, min(MOST_RUNS, most), most})
    seconds = {size: _seconds(list(build_each(jobs[:size], shared, trusted))) for size in sizes}
    best = min(sizes[1:], key=lambda size: seconds[size])
    reason = f"{best} at a time took {seconds[best] / seconds[1]:.2f} of the time of single runs"
    return (best if seconds[best] <= WORTH * seconds[1] else 0), reason


def _seconds(runs: Sequence[Components]) -> float:
    """Return the seconds of a training step per run, the minimum of several steps."""
    runs = max(grouped(runs, stack_signature), key=len)  # the sizes of folds may differ
    population, data = stacked(runs)
    population.train()
    batches = [batch for batch, _ in zip(data.train.epoch(0), range(4), strict=False)]
    times: list[float] = []
    until = time.perf_counter() + MEASURE_SECONDS
    while len(times) < 4 or time.perf_counter() < until:
        begin = time.perf_counter()
        train_step(population, [batches[len(times) % len(batches)]], drop_nonfinite=False)
        device.synchronize(population.device)
        times.append(time.perf_counter() - begin)
    return min(times) / len(runs)


def _memory(components: Components) -> int:
    return int(MEMORY_SHARE * device.free_memory(components.device))


def _bytes(components: Components) -> int:
    """Estimate the bytes that a run needs: COPIES of its weights, and a batch's activations."""
    model = components.state.model
    activations = 0

    def count(module: nn.Module, inputs: Any, outputs: Any) -> None:
        nonlocal activations
        activations += outputs.nbytes if isinstance(outputs, Tensor) else 0

    hooks = [m.register_forward_hook(count) for m in model.modules() if not list(m.children())]
    try:
        with torch.no_grad():
            model.eval()(next(iter(components.train.epoch(0)))[0])
    finally:
        for hook in hooks:
            hook.remove()
    return COPIES * sum(p.nbytes for p in model.parameters()) + 3 * activations
