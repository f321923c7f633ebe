"""The size and normalisation of images that a model expects: those of its weights, or its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.components.metadata import CheckpointMetadata, Preprocessing
from trainer.components.pretrained import published_by, published_file, weights_file
from trainer.components.target import Target
from trainer.components.weights import read_weights
from trainer.data.prepare import Prepare
from trainer.models import vision
from trainer.training.archive import CheckpointError
from trainer.training.checkpoint import Checkpoint


def preprocessing_of(weights: str | None, target: Target, data_size: Any) -> Preprocessing:
    """Return the size and normalisation of images that the model expects.

    Values that the user typed (`model.image_size`, `data.size`) take precedence over those of the weights.

    Raises:
        UserError: there are no such weights, or their file is damaged.
    """
    preprocessing = _of_weights(weights, target)
    if fixed := getattr(target.factory, "image_size", None):
        return replace(preprocessing, size=fixed[0], resize=None)
    typed = target.arguments.get("image_size") or data_size
    if isinstance(typed, list) and len(typed) == 2:
        height, width = typed
        typed = height if height == width else (height, width)
    if isinstance(typed, (int, tuple)):
        return replace(preprocessing, size=typed, resize=None)
    if preprocessing.size is None and target.factory in vision.BUILDERS:
        natural = vision.natural_size if target.factory is vision.torchvision_model else vision.timm_natural_size
        return replace(preprocessing, size=natural(str(target.arguments["name"])))
    return preprocessing


def _of_weights(weights: str | None, target: Target) -> Preprocessing:
    path = weights_file(weights)
    entry = published_by(weights, target) or (published_file(target, path.name) if path else None)
    if entry is not None:
        preset = entry.transforms()
        mean, std = (tuple(255 * value for value in values) for values in (preset.mean, preset.std))
        return Preprocessing(preset.crop_size[0], preset.resize_size[0], mean, std, published=True)
    if path is not None:
        return _of_file(path)
    return Preprocessing() if weights is None else _of_timm(str(target.arguments["name"]))


def _of_file(path: Path) -> Preprocessing:
    """Return the preprocessing of the run that a checkpoint belongs to; empty for tables and other programs' files."""
    try:
        stored = Checkpoint.from_dict(read_weights(path)).metadata
    except CheckpointError:
        return Preprocessing()
    metadata = CheckpointMetadata.from_dict(stored, path)
    prepare, published = metadata.prepare, metadata.preprocessing.published  # the model still depends on the latter
    if not isinstance(prepare, Prepare) or len(prepare.shape) != 3:
        return Preprocessing()
    height, width = prepare.output_shape[1:]
    size = height if height == width else (height, width)
    return Preprocessing(size, None, prepare.mean, prepare.std, published=published)


def _of_timm(name: str) -> Preprocessing:
    try:
        import timm

        vision.check_timm_name(name)
    except (ModuleNotFoundError, ValueError):
        return Preprocessing()  # building the model reports it
    entry = timm.get_pretrained_cfg(name)
    if entry is None:
        return Preprocessing()
    mean, std = (tuple(255 * value for value in values) for values in (entry.mean, entry.std))
    size = entry.input_size[1]
    return Preprocessing(size, round(size / entry.crop_pct), mean, std, published=True)
