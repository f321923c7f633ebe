"""Start from pretrained weights: torchvision's published ones, timm's, or those of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torchvision
from torch import Tensor, nn

from trainer.components.downloads import download, timm_file
from trainer.components.state_dicts import Match, best_match
from trainer.components.target import Target
from trainer.components.weights import DEFAULT, hub_config, read_weights, weights_error, weights_file
from trainer.errors import Problem, UserError, first_few, printable, suggestions
from trainer.files import open_regular
from trainer.models import vision

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


def published_file(target: Target, path: Path) -> Any:
    """Return torchvision's entry for the chosen model with this file, by its published name or else its digest."""
    if target.factory is not vision.torchvision_model:
        return None
    try:
        entries = list(torchvision.models.get_model_weights(target.arguments["name"]))
    except ValueError:
        return None  # no such model, which building it reports
    names = {entry.url.rpartition("/")[2]: entry for entry in entries}
    if path.name in names:
        return names[path.name]
    with open_regular(path, follow=True) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    # A published name ends in the first digits of the digest: resnet18-f37072fd.pth.
    return next((entry for name, entry in names.items() if digest.startswith(_digits(name))), None)


def _digits(name: str) -> str:
    digits = Path(name).stem.rpartition("-")[2]
    return digits if len(digits) >= 8 else "none"


def fetch_weights(weights: str | None, target: Target) -> Path | None:
    """Return the file of the weights to start from, downloaded if they are published ones; None without a file.

    Raises:
        UserError: they cannot be found or downloaded.
    """
    if weights is None:
        return None
    if (path := weights_file(weights)) is not None:
        return path
    if (entry := published_by(weights, target)) is not None:
        return download(entry)
    try:
        vision.check_timm_name(str(target.arguments["name"]))
    except (ModuleNotFoundError, ValueError):
        return None  # building the model reports it
    return timm_file(str(target.arguments["name"]))


def load_weights(model: nn.Module, weights: str | None, target: Target) -> list[str]:
    """Load `model.weights` into `model`, which is mutated: every tensor that matches in name and shape.

    Returns:
        Notes on what was loaded and what was not.

    Raises:
        UserError: the weights cannot be found or read, or none of them match.
    """
    path = fetch_weights(weights, target)
    if weights is None or path is None:
        return []
    own, entry = model.state_dict(), published_by(weights, target)
    content: dict[str, Any]
    if weights == DEFAULT and entry is None:
        content, origin = _of_timm(target, path), "timm's"
    else:
        content, origin = read_weights(path), f"torchvision's {entry}" if entry is not None else str(path)
    match = best_match(content, own)
    if match is None:
        raise weights_error(path, "it contains no tensors")
    if not match.fitting:
        architecture = hub_config(path).get("architecture")
        advice = f"They are weights of {printable(architecture)}." if isinstance(architecture, str) else ""
        raise weights_error(weights, f"none of its {len(match.tensors)} tensors fits this model", advice)
    model.load_state_dict({name: match.tensors[name] for name in match.fitting}, strict=False)
    return _notes(match, own, origin)


def _of_timm(target: Target, path: Path) -> dict[str, Tensor]:
    """Return timm's weights as timm loads them: it fits position embeddings to another image size."""
    try:
        return vision.timm_pretrained(target.arguments["name"], path, target.arguments.get("image_size")).state_dict()
    except Exception as error:  # timm does not say which
        reason = f"timm could not load {path} ({next(iter(str(error).splitlines()), type(error).__name__)})"
        raise weights_error(DEFAULT, reason) from error


def _notes(match: Match, own: dict[str, Tensor], origin: str) -> list[str]:
    source, described = match.tensors, match.describe()
    # Files from before torch 1.0 have no count of batches, and only a BatchNorm without momentum uses it.
    own = {name: value for name, value in own.items() if name in source or not name.endswith(".num_batches_tracked")}
    other = [
        f"{name} {_sizes(value)} there, {_sizes(own[name])} here"
        for name, value in source.items()
        if name in own and own[name].shape != value.shape
    ]
    first = f"weights: {len(match.fitting)} of {len(own)} tensors from {origin}"
    return [f"{first} ({described})" if described else first] + [
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
