"""Evaluation of a whole split: outputs, targets and the report computed from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.data.batches import Batches
from trainer.data.confidence import with_confidence
from trainer.data.metrics import SplitReport
from trainer.data.streams import seed_streams
from trainer.data.tasks import Task
from trainer.seeds import derive
from trainer.signals import Signals


@dataclass(frozen=True)
class Evaluation:
    """Outputs [N, C] and targets [N] of a split, and the report that becomes the `test` block of results.json."""

    outputs_NC: Tensor
    targets_N: Tensor
    report: SplitReport


def evaluate(
    forward: Callable[[Tensor], Tensor], batches: Batches, signals: Signals, batch_axis: int = 0
) -> tuple[Tensor, Tensor]:
    """Return the outputs [N, C] and targets [N] of a split, in the split's order.

    All outputs are kept, so that each metric is computed once over all samples and does not depend on the batch size.
    A model that draws from the global random streams, which are seeded here, draws the same in each evaluation.

    Args:
        forward: maps inputs [B, ...] to outputs [B, C] of a model in evaluation mode, or to [R, B, C] of R models,
            which gives outputs [R, N, C].
        batches: the split.
        signals: checked before every batch.
        batch_axis: the axis of the targets that counts samples: 1 if each of the R models has samples of its own,
            which gives targets [R, N].

    Raises:
        Interrupted: a signal was received; raised before the next batch.
    """
    outputs = targets = torch.empty(0)
    start = 0
    seed_streams(derive(0, "evaluation"), device=batches.device)
    for inputs, batch_targets in batches.epoch(0):
        signals.check()
        with torch.inference_mode():
            batch_outputs = forward(inputs)
        if not start:  # allocated once: small tensors kept between large batches would fragment the heap
            *lead, _, width = batch_outputs.shape
            outputs = batch_outputs.new_empty((*lead, batches.num_samples, width))
            shape = batch_targets.shape
            targets = batch_targets.new_empty((*shape[:batch_axis], batches.num_samples, *shape[batch_axis + 1 :]))
        size = batch_targets.shape[batch_axis]
        outputs.narrow(-2, start, size).copy_(batch_outputs)
        targets.narrow(batch_axis, start, size).copy_(batch_targets)
        start += size
    return outputs, targets


def evaluate_and_report(
    forward: Callable[[Tensor], Tensor],
    criterion: Callable[[Tensor, Tensor], Tensor],
    task: Task,
    batches: Batches,
    signals: Signals,
) -> Evaluation:
    """Evaluate a split and compute every metric of its task.

    Args:
        forward: maps inputs [B, ...] to outputs [B, C] of a model in evaluation mode.
        criterion: maps outputs [N, C] and targets [N] to the mean loss [].
        task: the task, which computes the metrics.
        batches: the split.
        signals: checked before every batch.

    Raises:
        Interrupted: a signal was received; raised before the next batch.
    """
    outputs_NC, targets_N = evaluate(forward, batches, signals)
    loss = criterion(outputs_NC, targets_N).item()
    report = with_confidence(task.report(outputs_NC, targets_N, loss), len(targets_N))
    return Evaluation(outputs_NC, targets_N, report)
