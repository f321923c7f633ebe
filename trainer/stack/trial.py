"""Whether runs come to the same stacked as alone, tried by one step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainer.components.assemble import Components
from trainer.config.compose import Job
from trainer.data.loader import DataCache
from trainer.errors import UserError
from trainer.stack.compatible import stack_signature
from trainer.stack.group import Builder, stacked
from trainer.stack.population import StackedRuns
from trainer.training.step import train_step

SOME = 16  # runs that are looked at
ROUNDING = 0.03  # that a stack's arithmetic may differ by from a single run's, in a step of bfloat16


def parts_of(jobs: Sequence[Job], shared: DataCache, trusted: bool) -> Iterator[Components]:
    """Built anew, each when it is asked for."""
    builder = Builder(jobs, trusted=trusted, shared=shared)
    return (builder.build(job)[0] for job in jobs)


def verify_stacked_step(jobs: Sequence[Job], shared: DataCache, trusted: bool) -> None:
    """One step and one evaluation of two runs of each kind, of few samples; the first must fare as it does alone.

    Raises:
        UserError: it does not.
    """
    kinds: list[tuple[Any, list[Job]]] = []
    for job, parts in zip(jobs[:SOME], parts_of(jobs[:SOME], shared, trusted), strict=False):
        key = stack_signature(parts)
        known = next((group for known, group in kinds if known == key), None)
        if known is None:
            kinds.append((key, known := []))
        known.append(job)
    for _, group in kinds:
        pair = list(parts_of(group[:2] if len(group) > 1 else group * 2, shared, trusted))
        [alone] = parts_of(group[:1], shared, trusted)
        if not all(map(_near, _step(pair), _step([alone]))):
            raise UserError("the model computes something else than it does alone")


def _near(some: Tensor, other: Tensor) -> bool:
    """Apart by rounding, measured by the largest value: what is all but zero may be all noise."""
    some, other = some.double(), other.double()
    scale = other.abs().max().item() if other.numel() else 0.0
    return torch.allclose(some, other, ROUNDING, ROUNDING * scale, equal_nan=True)


def _step(parts: Sequence[Components]) -> list[Tensor]:
    """Of the first run after a step: its training loss, its gradients in one, each of its buffers."""
    population, train, _ = stacked(parts)
    population.train()
    axis, first = population.batch_axis, parts[0].state
    inputs, targets = (_few(tensor, axis) for tensor in next(iter(train.epoch(0))))
    gradients: dict[str, Tensor] = {}
    watched = population.parameters if isinstance(population, StackedRuns) else dict(first.model.named_parameters())

    def keep(name: str, parameter: Tensor) -> None:
        assert parameter.grad is not None
        gradients[name] = (parameter.grad[0] if isinstance(population, StackedRuns) else parameter.grad).clone()

    for name, parameter in watched.items():
        parameter.register_post_accumulate_grad_hook(partial(keep, name))
    train_step(population, [(inputs, targets)])
    population.eval()
    with torch.no_grad():
        population.losses(population.outputs(inputs), targets)
    buffers = [tensor for _, tensor in first.model.named_buffers()]
    together = [gradients[name].flatten() for name in sorted(gradients)]
    return [population.sums.loss_R[:1], torch.cat(together), *buffers]


def _few(tensor: Tensor, axis: int) -> Tensor:
    return tensor.narrow(axis, 0, min(4, tensor.shape[axis]))
