"""A trial step that verifies that runs compute the same in a stack as alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from trainer.components.assemble import Components
from trainer.config.job import Job
from trainer.data.loader import DataCache
from trainer.data.streams import ALL, drawn_from, kept_streams, seed_streams
from trainer.errors import Problem, UserError
from trainer.stack.build import Builder, stacked
from trainer.stack.compatible import grouped, stack_signature
from trainer.stack.population import StackedRuns
from trainer.training.step import train_step

MOST_RUNS = 16  # built for a trial
ROUNDING = 0.03  # relative difference that is allowed between a stack and a single run, in a step of bfloat16


def build_each(jobs: Sequence[Job], shared: DataCache, trusted: bool) -> Iterator[Components]:
    """Yield the newly built components of each job."""
    builder = Builder(jobs, trusted=trusted, shared=shared)
    return (builder.build(job)[0] for job in jobs)


def verify_stacked_step(jobs: Sequence[Job], shared: DataCache, trusted: bool) -> None:
    """Compare a step and an evaluation of two stacked runs with those of the first one alone, on a few samples.

    Every kind of run among the first MOST_RUNS is tried.

    Raises:
        UserError: the results differ, or the loss is not finite.
    """
    built = build_each(jobs[:MOST_RUNS], shared, trusted)
    for group in grouped(jobs[:MOST_RUNS], lambda job: stack_signature(next(built))):
        pair = list(build_each(group[:2] if len(group) > 1 else group * 2, shared, trusted))
        [alone] = build_each(group[:1], shared, trusted)
        if not all(map(_close, _step(pair), _step([alone]))):
            raise UserError(Problem("", "the model computes other results than alone"))


def _close(stacked: Tensor, alone: Tensor) -> bool:
    """Return whether tensors differ by rounding only, relative to the largest value: small values may be noise."""
    stacked, alone = stacked.double(), alone.double()
    scale = alone.abs().max().item() if alone.numel() else 0.0
    return torch.allclose(stacked, alone, ROUNDING, ROUNDING * scale, equal_nan=True)


def _step(runs: Sequence[Components]) -> list[Tensor]:
    """Train one step and evaluate; return the first run's training loss, gradients as one tensor, and buffers.

    Raises:
        UserError: the loss is not finite, or runs of a stack draw random numbers, which would be the same for all.
    """
    population, data = stacked(runs)
    population.train()
    axis, first = population.batch_axis, runs[0].state
    inputs, targets = (tensor.narrow(axis, 0, min(4, tensor.shape[axis])) for tensor in next(iter(data.train.epoch(0))))
    gradients: dict[str, Tensor] = {}
    in_stack = isinstance(population, StackedRuns)
    parameters = population.parameters if isinstance(population, StackedRuns) else dict(first.model.named_parameters())

    def keep(name: str, parameter: Tensor) -> None:
        assert parameter.grad is not None
        gradients[name] = (parameter.grad[0] if in_stack else parameter.grad).clone()

    for name, parameter in parameters.items():
        parameter.register_post_accumulate_grad_hook(partial(keep, name))
    with kept_streams():
        seed_streams(0)
        if train_step(population, [(inputs, targets)]):
            raise UserError(Problem("", "the training loss is not finite"))
        population.eval()
        with torch.no_grad():
            population.metrics(population.outputs(inputs), targets)
        if in_stack and drawn_from(ALL, 0):
            raise UserError(Problem("", "the model or the loss draws random numbers of its own"))
    buffers = [tensor for _, tensor in first.model.named_buffers()]
    together = [gradients[name].flatten() for name in sorted(gradients)]
    return [population.sums.loss_R[:1], torch.cat(together), *buffers]
