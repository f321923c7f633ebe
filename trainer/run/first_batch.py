"""samples.png: the first training batch as the model sees it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from trainer.components.assemble import Components
from trainer.data.loader import make_batches
from trainer.data.multilabel import MultiLabel
from trainer.data.prepare import Prepare
from trainer.data.tasks import Task
from trainer.records.samples import FIRST_BATCH

MOST = 24  # images of the picture
SHARE = 0.01  # of a mixed label that a caption names


def draw_first_batch(folder: Path, components: Components) -> None:
    """Draw the images of the first training batch, augmented and mixed, with their targets; nothing without images.

    The batch is read anew: what augments it is drawn from its own seeds, so nothing of the run is changed.

    Raises:
        UserError: the samples cannot be read.
        RunFailed: the file could not be written.
    """
    from trainer.report import plots

    data = components.data
    if not isinstance(data.prepare, Prepare) or len(data.prepare.output_shape) != 3:
        return
    loading = replace(components.loading, resident=False, workers=0)
    batches = make_batches(data, "train", components.config.batch_size, loading, components.train.sampling)
    inputs, targets = next(iter(batches.epoch(0)))
    mean, std = (torch.tensor(values)[:, None, None] for values in data.prepare.statistics)
    images = inputs[:MOST].float().cpu() * std + mean
    captions = [_caption(data.task, target) for target in targets[:MOST].cpu()]
    plots.mistakes(folder / FIRST_BATCH, images, captions)


def _caption(task: Task, target: Tensor) -> str:
    """Return a target as text: a class, the shares of a mixed one, labels, or numbers."""
    if not task.classes:
        return " ".join(f"{value:.4g}" for value in target.flatten().tolist())
    if target.ndim == 0:
        return task.classes[int(target)]
    named = [(name, share) for name, share in zip(task.classes, target.tolist(), strict=True) if share >= SHARE]
    if isinstance(task, MultiLabel):
        return "\n".join(name for name, _ in named) or "none"
    return "\n".join(f"{name} {share:.0%}" for name, share in sorted(named, key=lambda pair: -pair[1])[:2])
