"""Read weights to start from: a state dict in a file, a run's best checkpoint, or a download."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor

from trainer.components.target import Target
from trainer.errors import Problem, UserError
from trainer.files import resolve
from trainer.models import vision
from trainer.records.contents import exists
from trainer.training import archive

DEFAULT = "default"  # names the published weights that the library recommends
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
INSTEAD = "name a file with model.weights=PATH, or start from random weights with model.weights=none."


def weights_file(weights: str | None) -> Path | None:
    """Return the checkpoint that `model.weights` names by a path: a file, or the best one of a run folder.

    Raises:
        UserError: the path does not exist, or is a folder without a checkpoint.
    """
    if weights in (None, DEFAULT):
        return None
    path = Path(str(weights)).expanduser()
    if os.path.isdir(path):
        best = resolve(path) / "checkpoints" / "best.pt"
        if not exists(best):
            raise _error(path, "a folder without checkpoints/best.pt, so not a run folder")
        return best
    if os.path.isfile(path):
        return resolve(path)
    if path.suffix or len(path.parts) > 1:
        raise _error(path, "there is no such file")
    return None


def read_weights(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint or a state dict, read without executing code.

    Raises:
        UserError: the file is damaged or holds something else.
    """
    try:
        content = archive.read(path)
    except archive.CheckpointError as damage:
        raise _error(path, str(damage)) from damage
    if not isinstance(content, dict):
        raise _error(path, f"expected a state dict, found {type(content).__name__}")
    return content


def state_dict_of(content: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """Return the state dict in a file's content: the content itself, or under one of the usual names.

    Raises:
        UserError: there are no tensors in it.
    """
    for name in ("run", "model", "state_dict", "model_state_dict"):
        if isinstance(content.get(name), dict):
            content = content[name]
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise _error(path, "it contains no tensors")
    if "n_averaged" in tensors and all(name.startswith("module.") for name in tensors if name != "n_averaged"):
        del tensors["n_averaged"]  # an AveragedModel's own count
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def download(entry: Any) -> Path:
    """Return the file of torchvision's published weights in torch's cache; download it if it is not there.

    Raises:
        UserError: it cannot be downloaded.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rpartition("/")[2]
    if path.is_file():
        return resolve(path)
    digest = re.search(r"-([0-9a-f]{8,})\.", path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(entry.url, str(path), digest and digest[1], progress=sys.stderr.isatty())
    except (URLError, OSError, RuntimeError) as error:
        reason = f"{path.name} is not in {path.parent} and could not be downloaded ({_first_line(error)})"
        raise _error(entry.name, reason, f"Put it there, or {INSTEAD}") from error
    return resolve(path)


def timm_weights(target: Target) -> dict[str, Tensor]:
    """Return timm's pretrained weights of a model; timm fits position embeddings to another image size itself.

    Raises:
        UserError: timm cannot load them.
    """
    name = target.arguments["name"]
    try:
        return vision.timm_model(name, image_size=target.arguments.get("image_size"), fetch=True).state_dict()
    except Exception as error:  # the hub's own errors are not public types
        reason = f"timm could not get the weights of {name} ({_first_line(error)})"
        raise _error(DEFAULT, reason, INSTEAD[0].upper() + INSTEAD[1:]) from error


def _error(weights: str | Path, reason: str, advice: str = "") -> UserError:
    return UserError(Problem("model.weights", reason, given=str(weights), advice=advice))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
