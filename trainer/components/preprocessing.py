"""The size and normalisation of images that a model expects: those of its weights, or its own."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.components.metadata import MAX_SIDE, CheckpointMetadata, Preprocessing
from trainer.components.pretrained import published_by, published_file
from trainer.components.target import Target
from trainer.components.weights import DEFAULT, HUB_CONFIG, hub_config, read_weights, weights_error, weights_file
from trainer.config.keys import DataConfig
from trainer.data.dataset import Data
from trainer.data.prepare import Prepare
from trainer.errors import Problem, UserError, show
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


def normalise_as_typed(data: Data, config: DataConfig) -> None:
    """Normalise images by `data.mean` and `data.std`, as far as they are set; mutates `data`.

    They are in the unit in which white is 1, as torchvision's; for images of floats, in the unit of the data.

    Raises:
        UserError: there are no images, or another number of channels.
    """
    for name, values in (("mean", config.mean), ("std", config.std)):
        if values is None:
            continue
        key, prepare = f"data.{name}", data.prepare
        if len(data.shape) != 3 or not isinstance(prepare, Prepare):
            raise UserError(Problem(key, f"the data has no images, but samples of shape {list(data.shape)}"))
        if len(values) not in (1, data.shape[0], prepare.output_shape[0]):
            reason = f"expected 1 or {data.shape[0]} numbers, one for each channel"
            raise UserError(Problem(key, reason, given=show(values)))
        unit = 255.0 if data.has_bytes else 1.0
        if unit > 1 and not all(0 <= value <= 1 for value in values):
            raise UserError(Problem(key, "expected numbers from 0 to 1", given=show(values), advice="255 is 1 there."))
        scaled = tuple(unit * value for value in values)
        scaled = scaled * data.shape[0] if len(scaled) == 1 else scaled
        data.prepare = replace(prepare, mean=scaled) if name == "mean" else replace(prepare, std=scaled)


def describe_inputs(data: Data, config: DataConfig, preprocessing: Preprocessing) -> str:
    """Return shape, crop and normalisation of a model's inputs, and where they come from, for the header."""
    prepare = data.prepare
    if len(data.shape) != 3 or not isinstance(prepare, Prepare):
        return ""
    unit, words = 255.0 if data.has_bytes else 1.0, ["x".join(map(str, prepare.output_shape))]
    if preprocessing.resize:
        words.append(f"the centre after resizing to {preprocessing.resize}")
    own = "the weights" if preprocessing.mean and data.has_bytes else "the training images"
    for name, values in (("mean", prepare.mean), ("std", prepare.std)):
        origin = "typed" if getattr(config, name) is not None else f"of {own}"
        words.append(f"{name} {' '.join(f'{value / unit:.3g}' for value in values)} ({origin})")
    return ", ".join(words)


def _of_weights(weights: str | None, target: Target) -> Preprocessing:
    path = weights_file(weights)
    entry = published_by(weights, target)
    if path is not None and entry is None:
        return _of_file(path, target)
    if entry is not None:
        return _of_torchvision(entry)
    return Preprocessing() if weights is None else _of_timm(str(target.arguments["name"]))


def _of_torchvision(entry: Any) -> Preprocessing:
    preset = entry.transforms()
    mean, std = (tuple(255 * value for value in values) for values in (preset.mean, preset.std))
    return Preprocessing(preset.crop_size[0], preset.resize_size[0], mean, std, published=True)


def _of_file(path: Path, target: Target) -> Preprocessing:
    """Return the preprocessing for weights in a file: that of the run they belong to, else the architecture's preset.

    Tables have none. The preset of a folder of the hub is in its config.json.
    """
    try:
        stored = Checkpoint.from_dict(read_weights(path)).metadata
    except CheckpointError:
        return _of_config(path) or _of_architecture(path, target)
    metadata = CheckpointMetadata.from_dict(stored, path)
    prepare, published = metadata.prepare, metadata.preprocessing.published  # the model still depends on the latter
    if not isinstance(prepare, Prepare) or len(prepare.shape) != 3:
        return Preprocessing()
    height, width = prepare.output_shape[1:]
    size = height if height == width else (height, width)
    return Preprocessing(size, None, prepare.mean, prepare.std, published=published)


def _of_architecture(path: Path, target: Target) -> Preprocessing:
    """Return the preset of a file of unknown origin: its own if it is a published file, else the recommended one."""
    entry = published_file(target, path)
    if entry is not None:
        return _of_torchvision(entry)
    if target.factory in vision.BUILDERS:
        with contextlib.suppress(UserError):  # there is no such model, which building it reports
            published = published_by(DEFAULT, target)
            return _of_torchvision(published) if published is not None else _of_timm(str(target.arguments["name"]))
    return Preprocessing()


def _of_config(path: Path) -> Preprocessing | None:
    """Return timm's preset in config.json beside the weights of a folder of the hub, which is not trusted.

    Raises:
        UserError: its values are invalid.
    """
    preset = hub_config(path).get("pretrained_cfg")
    if not isinstance(preset, dict):
        return None
    try:
        size = int(preset["input_size"][1])
        crop = float(preset.get("crop_pct", 1.0))
        mean, std = (tuple(255 * float(value) for value in preset[name]) for name in ("mean", "std"))
        in_range = 0 < size <= MAX_SIDE and 0.1 <= crop <= 1 and all(value > 0 for value in std)
        if not (in_range and all(map(math.isfinite, (*mean, *std)))):
            raise ValueError("values out of range")
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise weights_error(path.parent / HUB_CONFIG, f"its pretrained_cfg is invalid ({error})") from error
    return Preprocessing(size, int(size / crop), mean, std, published=True)


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
    return Preprocessing(size, int(size / entry.crop_pct), mean, std, published=True)
