"""details.json: small excerpts of the test for the report page, beyond results.json.

Shape letters: N samples of the test split, C outputs.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from trainer.data.dataset import Split
from trainer.data.mistakes import most_confident_mistakes
from trainer.data.regression import Regression
from trainer.data.tasks import Classification, Task
from trainer.records.details import Details, Mistake, write_details
from trainer.training.calibration import reliability

SIDE = 128  # pixels of a stored image, at most
PREDICTIONS = 1000  # stored pairs of a regression, at most


def write(folder: Path, task: Task, split: Split, outputs_NC: Tensor) -> None:
    """Write details.json for these outputs of the test split.

    Raises:
        RunFailed: the file could not be written.
    """
    if isinstance(task, Classification):
        probabilities_NC = task.probabilities(outputs_NC)
        calibration = reliability(probabilities_NC, task.predictions(outputs_NC), split.targets)
        is_image = split.samples.take(split.indices[:1]).ndim == 4
        write_details(folder, Details(calibration, _mistakes(task, split, outputs_NC) if is_image else None))
        return
    if isinstance(task, Regression):
        pairs_2NK = torch.stack([split.targets.double().view(len(split), -1), task.estimates(outputs_NC)])
        chosen = torch.linspace(0, len(split) - 1, min(len(split), PREDICTIONS)).long()
        pairs_KN2 = pairs_2NK[:, chosen].permute(2, 1, 0).tolist()
        by_target = dict(zip(task.targets, pairs_KN2, strict=True)) if task.several else None
        write_details(folder, Details(predictions=None if task.several else pairs_KN2[0], targets=by_target))


def _mistakes(task: Classification, split: Split, outputs_NC: Tensor) -> list[Mistake]:
    positions, predicted, chances = most_confident_mistakes(task, split, outputs_NC)
    if len(positions) == 0:
        return []
    images = split.samples.take(split.indices[positions])
    return [
        Mistake(
            image=base64.b64encode(_png(image)).decode(),
            predicted=task.classes[guess],
            true=task.classes[split.targets[position]],
            chance=round(chance, 6),
        )
        for image, position, guess, chance in zip(
            images, positions.tolist(), predicted.tolist(), chances.tolist(), strict=True
        )
    ]


def _png(image: Tensor) -> bytes:
    """Return an image [channels, H, W] as a PNG of at most SIDE pixels; floats are scaled to their range."""
    if image.dtype != torch.uint8:
        image = image.float()
        image = ((image - image.min()) / (image.max() - image.min()).clamp(min=1e-9) * 255).to(torch.uint8)
    pixels = image[0] if image.shape[0] != 3 else image.permute(1, 2, 0)
    picture = Image.fromarray(pixels.contiguous().numpy())
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
