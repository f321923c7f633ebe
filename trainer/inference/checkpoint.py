"""Checkpoints for inference, which are checked before anything in them is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from trainer import device
from trainer.components.metadata import MAX_SIDE, CheckpointMetadata
from trainer.config.parse import parse
from trainer.config.schema import Config
from trainer.config.stored import TRUST, StoredConfig
from trainer.data.images.decode import DecodeSpec
from trainer.data.images.options import FOLDER, TABLE, ImageOptions
from trainer.errors import Problem, UserError, show
from trainer.records.find import checkpoint_file
from trainer.training import checkpoint
from trainer.training.archive import CheckpointError
from trainer.training.checkpoint import Checkpoint

TRUST_FLAG = "If you trust it, add --trust."


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint that was opened and checked.

    Attributes:
        path: the file.
        folder: the run's folder, or the folder of a file that was copied elsewhere.
        metadata: task and preprocessing.
        tree: the run's configuration, with interpolations as text.
        weights: the model's state dict, on the CPU.
        epoch, step: finished epochs and optimizer steps when the weights were saved.
        trusted: whether its configuration may name code outside this program, torch and torchvision, and read
            environment variables.
    """

    path: Path
    folder: Path
    metadata: CheckpointMetadata
    tree: dict[str, Any]
    weights: dict[str, Tensor]
    epoch: int
    step: int
    trusted: bool

    @property
    def name(self) -> str:
        """The run, as a user would name it."""
        return str(self.folder) if self.path.name == "best.pt" else str(self.path)

    @cached_property
    def digest(self) -> str:
        digest = blake2b(digest_size=16)
        for name, value in sorted(self.weights.items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def stored(self, names: Iterable[str]) -> dict[str, Any]:
        """Return these keys of the configuration as they are stored.

        Raises:
            UserError: they read environment variables, and the checkpoint is not trusted.
        """
        chosen = {name: self.tree[name] for name in names if name in self.tree}
        if not self.trusted and _has_interpolation(chosen):
            reason = "it reads environment variables (${...})"
            raise UserError(Problem(str(self.path), reason, advice=TRUST_FLAG))
        return chosen

    def config(self, *names: str) -> Config:
        """Return these keys of the configuration, typed; the others have their defaults.

        Raises:
            UserError: a value is invalid, or reads environment variables.
        """
        stored = self.stored(names)
        if _has_interpolation(stored):
            try:
                stored = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(stored), resolve=True))
            except OmegaConfBaseException as error:
                raise UserError(Problem("", str(error).splitlines()[0], source=str(self.path))) from error
        parsed, problems = parse(stored)
        if problems:
            raise UserError(*(problem.within(self.path) for problem in problems))
        return parsed

    @property
    def decode_spec(self) -> DecodeSpec:
        """The pixels that image files are decoded to.

        Raises:
            UserError: the configuration has invalid sizes.
        """
        if self._data("_target_") not in (FOLDER, TABLE):
            return DecodeSpec()
        preprocessing, sizes = self.metadata.preprocessing, {}
        sizes["size"] = self._data("size") or preprocessing.size
        sizes["resize"] = self._data("resize") or (preprocessing.resize if preprocessing.size else None)
        options = ImageOptions(
            **sizes,
            interpolation=self._data("interpolation"),
            channels=self._data("channels") or 3,
            range=self._data("range"),
        )
        try:
            spec = options.spec()
        except UserError as error:
            raise UserError(*(problem.within(self.path) for problem in error.problems)) from error
        if max((spec.resize or 0, *(spec.shape or ()))) > MAX_SIDE:
            raise UserError(Problem(f"data.size={show(options.size)}", "invalid sizes", source=str(self.path)))
        return spec

    @property
    def missing(self) -> str | None:
        """The replacement of missing values in a table: `data.missing`."""
        return self._data("missing")

    @property
    def separator(self) -> str | None:
        """The separator of a table's columns: `data.separator`; None if it was detected."""
        separator = self._data("separator")
        return separator if isinstance(separator, str) and len(separator) == 1 else None

    def _data(self, name: str) -> Any:
        """Return the value of `data.<name>`; None if it is not stored."""
        data = self.tree.get("data")
        return data.get(name) if isinstance(data, dict) else None


def open_run(name: str | Path, *, trusted: bool = False) -> LoadedCheckpoint:
    """Open the checkpoint of a run: its best one if a folder is named.

    For `trusted`, see LoadedCheckpoint.

    Raises:
        UserError: there is no checkpoint, or it cannot be used.
    """
    path = checkpoint_file(name)
    try:
        content = checkpoint.load(path)
    except CheckpointError as damage:
        raise UserError(Problem(str(path), str(damage))) from damage
    try:
        stored = Checkpoint.from_dict(content)
        weights = stored.weights
    except (CheckpointError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = "not a complete checkpoint of this program: its weights are not there"
        raise UserError(Problem(str(path), reason)) from error
    _check_tensors(weights, path)
    metadata = CheckpointMetadata.from_dict(stored.metadata, path)
    tree = StoredConfig.parse(metadata.config, path).tree
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return LoadedCheckpoint(path, folder, metadata, tree, weights, stored.epoch, stored.step, trusted)


def open_for_verb(name: str, *, trusted: bool) -> LoadedCheckpoint:
    """Open a run for a command, and set torch's threads as in training, so that results are the same.

    The code of a trusted run is also looked for in the current folder.

    Raises:
        UserError: there is no checkpoint, or it cannot be used.
    """
    if trusted:
        sys.path.append(os.getcwd())
    opened = open_run(name, trusted=trusted)
    config = opened.config("threads", "deterministic")
    device.set_up(config.threads, config.deterministic)
    return opened


def advised(problem: Problem, path: Path) -> Problem:
    """Return a problem of a checkpoint's configuration with its file, and with advice for the command line."""
    if problem.advice == TRUST:
        problem = replace(problem, advice=TRUST_FLAG)
    return problem.within(path)


def _check_tensors(weights: dict[str, Tensor], path: Path) -> None:
    """Check that all weights are plain tensors of finite numbers, no larger than their storage."""
    for name, value in weights.items():
        plain = isinstance(name, str) and type(value) in (Tensor, nn.Parameter)
        if not plain or value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            reason = "is not a plain tensor"
        elif value.numel() * value.element_size() > value.untyped_storage().nbytes():
            reason = "is larger than its stored data"
        elif value.is_floating_point() and not bool(value.isfinite().all()):
            reason = "is not finite"
        else:
            continue
        raise UserError(Problem(str(path), f"its weight {name} {reason}"))


def _has_interpolation(value: Any) -> bool:
    """Return whether a stored value contains an interpolation."""
    if isinstance(value, dict):
        return any(_has_interpolation(inner) for pair in value.items() for inner in pair)
    if isinstance(value, list):
        return any(map(_has_interpolation, value))
    return isinstance(value, str) and "${" in value
