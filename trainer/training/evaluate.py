"""The one evaluation: outputs, targets and figures of a whole split."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainer.data.batches import Batches
from trainer.data.tasks import Task
from trainer.signals import Signals
from trainer.training.population import Population, SingleRun
from trainer.training.step import eval_step


def evaluate(population: Population, batches: Batches, signals: Signals) -> tuple[Tensor, Tensor]:
    """Outputs [R, N, C] and targets [N] of a whole part, in eval mode, in the part's order.

    [N, C] where one run trains alone; targets [R, N] where each run has its own. All outputs are kept, so that every
    figure is computed once over all samples and does not depend on the batches.

    Raises:
        Interrupted: within a batch of a signal.
    """
    population.eval()
    outputs = targets = torch.empty(0)
    axis, done = population.batch_axis, 0
    for batch in batches.epoch(0):
        signals.check()
        some_outputs, some_targets = eval_step(population, batch)
        if not done:  # all in one place: little that is kept between large batches keeps the heap from shrinking
            *lead, _, width = some_outputs.shape
            outputs = some_outputs.new_empty((*lead, batches.num_samples, width))
            shape = some_targets.shape
            targets = some_targets.new_empty((*shape[:axis], batches.num_samples, *shape[axis + 1 :]))
        size = some_targets.shape[axis]
        outputs.narrow(-2, done, size).copy_(some_outputs)
        targets.narrow(axis, done, size).copy_(some_targets)
        done += size
    return outputs, targets


def judge(
    population: SingleRun, task: Task, batches: Batches, signals: Signals
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Outputs [N, C] and targets [N] of a whole part, and the `test` block of results.json for them.

    Raises:
        Interrupted: within a batch of a signal.
    """
    outputs_NC, targets_N = evaluate(population, batches, signals)
    loss = population.criterion(outputs_NC, targets_N).item()
    return outputs_NC, targets_N, task.report(outputs_NC, targets_N, loss)
