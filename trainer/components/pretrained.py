"""Start from pretrained weights: torchvision's published ones, timm's, or those of a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torchvision
from torch import Tensor, nn

from trainer.components.target import Target
from trainer.components.weights import DEFAULT, download, read_weights, state_dict_of, timm_weights, weights_file
from trainer.errors import Problem, UserError, first_few, suggestions
from trainer.models import vision

OLD_NAMES = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
SHOWN = 12  # names in a note


def published_by(weights: str | None, target: Target) -> Any:
    """Return torchvision's entry for `model.weights`; None if they are not torchvision's.

    Raises:
        UserError: there are no published weights of this name.
    """
    if weights is None or weights_file(weights):
        return None
    if target.factory is vision.timm_model and weights == DEFAULT:
        return None
    if target.factory is not vision.torchvision_model:
        reason = "no such file or run folder, and only torchvision's models have published ones"
        raise UserError(Problem("model.weights", reason, given=weights, advice="Expected none or a path."))
    name = target.arguments["name"]
    try:
        vision.check_name(str(name))
    except ValueError as error:
        raise UserError(Problem("model.name", str(error), given=name)) from error
    entries = torchvision.models.get_model_weights(name)
    if weights == DEFAULT:
        return entries.DEFAULT
    names = [entry.name for entry in entries]
    if weights not in names:
        advice = suggestions(str(weights), [*names, DEFAULT, "none"])
        raise UserError(Problem("model.weights", "no such file", given=weights, advice=advice))
    return entries[weights]


def published_file(target: Target, name: str) -> Any:
    """Return torchvision's entry for the chosen model whose file has this name, for a file downloaded by hand."""
    if target.factory is not vision.torchvision_model:
        return None
    try:
        entries = torchvision.models.get_model_weights(target.arguments["name"])
    except ValueError:
        return None  # no such model, which building it reports
    return next((entry for entry in entries if entry.url.rpartition("/")[2] == name), None)


def load_weights(model: nn.Module, weights: str | None, target: Target) -> list[str]:
    """Load `model.weights` into `model`, which is mutated: every tensor that matches in name and shape.

    Returns:
        Notes on what was loaded and what was not.

    Raises:
        UserError: the weights cannot be found or read, or none of them match.
    """
    if weights is None:
        return []
    entry, path = published_by(weights, target), weights_file(weights)
    if entry is not None:
        source, origin = state_dict_of(read_weights(download(entry)), Path(entry.url)), f"torchvision's {entry}"
    elif path is not None:
        source, origin = state_dict_of(read_weights(path), path), str(path)
    else:
        source, origin = timm_weights(target), "timm's"
    # torchvision's DenseNet files are older than the names of its layers.
    source = {OLD_NAMES.sub(r"\1\2", name): value for name, value in source.items()}
    own = model.state_dict()
    matching = {name: value for name, value in source.items() if name in own and own[name].shape == value.shape}
    if not matching:
        reason = f"none of its {len(source)} tensors fits this model"
        raise UserError(Problem("model.weights", reason, given=weights))
    model.load_state_dict(matching, strict=False)
    return _notes(source, own, len(matching), origin)


def _notes(source: dict[str, Tensor], own: dict[str, Tensor], matching: int, origin: str) -> list[str]:
    # Files from before torch 1.0 have no count of batches, and only a BatchNorm without momentum uses it.
    own = {name: value for name, value in own.items() if name in source or not name.endswith(".num_batches_tracked")}
    other = [
        f"{name} {_sizes(value)} there, {_sizes(own[name])} here"
        for name, value in source.items()
        if name in own and own[name].shape != value.shape
    ]
    return [f"weights: {matching} of {len(own)} tensors from {origin}"] + [
        f"weights: {words}: {first_few(names, SHOWN)}"
        for words, names in (
            ("different in shape, so initialised anew", other),
            ("not in the file, so initialised anew", [name for name in own if name not in source]),
            ("in the file, but not used", [name for name in source if name not in own]),
        )
        if names
    ]


def _sizes(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "1"
