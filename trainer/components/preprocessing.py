"""The size and normalisation of images that a model expects: those of its weights, or its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from trainer.components.pretrained import published_by, published_file, weights_file
from trainer.components.target import Target
from trainer.components.weights import read_weights
from trainer.models import vision


@dataclass(frozen=True)
class Preprocessing:
    """The size and normalisation of images that a model expects.

    Attributes:
        size: side of the square images, or (height, width), in pixels; None leaves it to the data.
        resize: the shorter side in pixels before the centre is cut out; None squashes images, or leaves them alone.
        mean, std: per channel, from 0 to 255; None leaves them to the data.
        published: whether the weights are torchvision's or timm's own.
    """

    size: int | tuple[int, int] | None = None
    resize: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    published: bool = False


def preprocessing_of(weights: str | None, target: Target, data_size: Any) -> Preprocessing:
    """Return the size and normalisation of images that the model expects.

    Values that the user typed (`model.image_size`, `data.size`) take precedence over those of the weights.

    Args:
        weights: `model.weights`.
        target: the resolved `model._target_`.
        data_size: `data.size`.

    Raises:
        UserError: no such weights.
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
    if path is None and weights == "default":
        return _of_timm(str(target.arguments["name"]))
    content = read_weights(path) if path else {}
    prepare = content.get("prepare", {})
    if "mean" not in prepare or len(prepare["shape"]) != 3:  # a table, or not a checkpoint of this program
        return Preprocessing()
    height, width = prepare["size"] or prepare["shape"][1:]
    return Preprocessing(
        height if height == width else (height, width),
        None,
        tuple(prepare["mean"]),
        tuple(prepare["std"]),
        published=content.get("preprocessing", {}).get("published", False),  # the model still depends on it
    )


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
