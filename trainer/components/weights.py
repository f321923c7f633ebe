"""Read weights to start from: a state dict in a file, a run's best checkpoint, or a folder of the Hugging Face hub."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.data.arrays import containers
from trainer.errors import Problem, UserError
from trainer.files import open_regular, read_text, resolve
from trainer.records.contents import exists
from trainer.training import archive

DEFAULT = "default"  # names the published weights that the library recommends
HUB_CONFIG, HUB_LIMIT = "config.json", 2**20
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
# NumPy has no bfloat16: such numbers are read as whole numbers of 16 bits, and viewed as what they are.
SAFETENSORS = {**containers.SAFETENSORS, "BF16": np.dtype("<i2", metadata={"bfloat16": True})}
NO_RUN = f"a folder without checkpoints/best.pt, so not a run folder, and without {' or '.join(HUB_FILES)}"


def weights_file(weights: str | None) -> Path | None:
    """Return the file that `model.weights` names by a path: itself, a run's best checkpoint, or the hub folder's file.

    Raises:
        UserError: the path does not exist, or is a folder without such a file.
    """
    if weights in (None, DEFAULT):
        return None
    path = Path(str(weights)).expanduser()
    if os.path.isdir(path):
        return _in_folder(path)
    if os.path.isfile(path):
        return path.absolute() if path.name in HUB_FILES else resolve(path)
    if path.suffix or len(path.parts) > 1:
        raise weights_error(path, "there is no such file")
    return None


def _in_folder(path: Path) -> Path:
    folder = resolve(path)
    for place in ("checkpoints/best.pt", *HUB_FILES):
        if exists(folder / place):
            return folder / place
    if any(exists(folder / f"{name}.index.json") for name in HUB_FILES):
        raise weights_error(path, "its weights are divided among several files, which is not supported")
    raise weights_error(path, NO_RUN)


def read_weights(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, a state dict or a safetensors file, read without executing code.

    Raises:
        UserError: the file is damaged or holds something else.
    """
    if path.name in HUB_FILES:
        path = resolve(path)  # in the hub's own cache it is a link
    with open_regular(path) as file:
        start = file.read(9)
        if start[8:] == b"{":  # after the length of the header
            file.seek(0)
            arrays = containers.safetensors(path, file, SAFETENSORS)
            return {name: _tensor(array) for name, array in arrays.items()}
    try:
        content = archive.read_foreign(path)
    except archive.CheckpointError as damage:
        raise weights_error(path, str(damage)) from damage
    if not isinstance(content, dict):
        raise weights_error(path, f"expected a state dict, found {type(content).__name__}")
    return content


def _tensor(array: containers.StoredArray) -> torch.Tensor:
    values = torch.from_numpy(array.read())
    return values.view(torch.bfloat16) if array.dtype.metadata else values


def hub_config(path: Path) -> Mapping[str, Any]:
    """Return config.json beside the weights of a folder of the hub; empty if there is none.

    Raises:
        UserError: it is not JSON.
    """
    place = path.parent / HUB_CONFIG
    if path.name not in HUB_FILES or not exists(place):
        return {}
    try:
        content = json.loads(read_text(resolve(place), HUB_LIMIT))
    except (ValueError, RecursionError) as error:
        raise weights_error(place, f"it is not JSON ({error})") from error
    return content if isinstance(content, dict) else {}


def weights_error(weights: str | Path, reason: str, advice: str = "") -> UserError:
    """Return the error of weights that cannot be used."""
    return UserError(Problem("model.weights", reason, given=str(weights), advice=advice))
