"""Opens what a run left: the checkpoint that a name stands for, its weights and what it says, all judged before use."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainer import device
from trainer.components import metadata
from trainer.components.loss import num_outputs
from trainer.components.metadata import CheckpointMetadata
from trainer.components.model import ModelBuilder
from trainer.components.targets import Targets, find_targets
from trainer.config.schema import Config
from trainer.config.stored import TRUST
from trainer.errors import Problem, UserError
from trainer.records.find import checkpoint_file
from trainer.training import checkpoint

TRUST_FLAG = "If you trust it, add --trust."
SHOWN = 6  # names in a sentence


@dataclass(frozen=True)
class LoadedCheckpoint:
    """An opened checkpoint.

    Attributes:
        path: of the file.
        folder: the run's folder, or the one that the file lies in.
        weights: the model's state dict, on the CPU.
        epoch, step: finished when they were these.
        trusted: whether it may name code outside this program.
    """

    path: Path
    folder: Path
    about: CheckpointMetadata
    weights: dict[str, Tensor]
    epoch: int
    step: int
    trusted: bool

    @property
    def name(self) -> str:
        """As a user would call the run."""
        return str(self.folder) if self.path.name == "best.pt" else str(self.path)

    @cached_property
    def digest(self) -> str:
        """Of the weights."""
        found = blake2b(digest_size=16)
        for name, value in sorted(self.weights.items()):
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            found.update(value.contiguous().view(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()

    def model(self) -> nn.Module:
        """The model with its weights, on the CPU, in eval mode; nothing else of the configuration is looked at.

        Raises:
            UserError: the configuration may not be followed, or the weights are of another model.
        """
        config = self.config("model", "precision", "loss")
        arguments = {key: value for key, value in config.model.arguments.items() if key != "fetch"}  # nor downloads
        config = replace(config, model=replace(config.model, arguments=arguments))
        target = self._targets(config, "model").model
        shape, outputs = self.about.prepare.output_shape, self._num_outputs(config)
        builder = ModelBuilder(target, config.model.output, shape, outputs, self.about.wanted.published)
        try:
            # Shapes first, without memory: a file of a few bytes may describe a model of terabytes.
            trial = builder.try_on_meta().state_dict()
            self._check_weights({name: tuple(value.shape) for name, value in trial.items()})
            with torch.random.fork_rng(devices=[]):  # whoever opens a model keeps their own stream of draws
                model = builder.build()
            if config.precision == "float64":  # before the weights come in, or half of their digits would be lost
                model.double()
            model.load_state_dict(self.weights)
        except (RuntimeError, MemoryError) as error:
            raise UserError(f"{self.path}: its model cannot be built: {str(error).splitlines()[0]}") from error
        return model.eval()

    def config(self, *names: str) -> Config:
        """These keys of its configuration, typed.

        Raises:
            UserError: they are not what they should be.
        """
        try:
            return self.about.part(*names)
        except UserError as error:
            raise UserError(*(problem.within(self.path) for problem in error.problems)) from error

    def _num_outputs(self, config: Config) -> int:
        if self.about.num_outputs is not None:
            return self.about.num_outputs
        return num_outputs(self._targets(config, "loss").loss, self.about.task, config.model.output)

    def _targets(self, config: Config, group: str) -> Targets:
        targets, problems = find_targets(config, [group], trusted=self.trusted)
        if problems:
            raise UserError(*(advised(problem, self.path) for problem in problems))
        return targets

    def _check_weights(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """
        Raises:
            UserError: other names or shapes than the model has.
        """
        odd = [name for name in {**shapes, **self.weights} if (name in shapes) != (name in self.weights)]
        odd += [name for name in shapes if name in self.weights and tuple(self.weights[name].shape) != shapes[name]]
        if odd:
            more = f" and {len(odd) - SHOWN} more" if len(odd) > SHOWN else ""
            names = f"{', '.join(odd[:SHOWN])}{more}"
            raise UserError(f"{self.path}: its weights are not those of the model that it names: {names}.")


def open_run(name: str | Path, *, trusted: bool = False) -> LoadedCheckpoint:
    """The checkpoint of a run: its best one where a folder is named.

    Args:
        trusted: whether it may name code outside this program, torch and torchvision.

    Raises:
        UserError: there is none, or it cannot be used; one sentence each.
    """
    path = checkpoint_file(name)
    try:
        content = checkpoint.load(path)
    except checkpoint.CheckpointError as damage:
        raise UserError(f"{path}: {damage}.") from damage
    described = metadata.read(content, path)
    try:
        weights, moment = _weights(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a whole checkpoint of this program: its weights are not there.") from error
    _check_tensors(weights, path)
    epoch, step = (value if isinstance(value := moment.get(key), int) else 0 for key in ("epoch", "step"))
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return LoadedCheckpoint(path, folder, described, weights, epoch, step, trusted)


def open_for_verb(name: str, *, trusted: bool) -> LoadedCheckpoint:
    """As `open_run`, for a command: sets torch's threads as the run had them, so that figures come out the same.

    A trusted run's own code is looked for in the current folder too.

    Raises:
        UserError: there is none, or it cannot be used.
    """
    if trusted:
        sys.path.append(os.getcwd())
    opened = open_run(name, trusted=trusted)
    config = opened.config("threads", "deterministic")
    device.set_up(config.threads, config.deterministic)
    return opened


def _weights(content: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What is evaluated, and the epoch and step it is of: the best weights, or of last.pt its latest."""
    if "model" in content:
        return dict(content["model"]), content
    run = content["run"]
    if run["average"] is not None:  # torch's AveragedModel
        inner = {name: value for name, value in run["average"].items() if name.startswith("module.")}
        return {name.removeprefix("module."): value for name, value in inner.items()}, run
    return dict(run["model"]), run


def _check_tensors(weights: dict[str, Tensor], path: Path) -> None:
    """
    Raises:
        UserError: something that is no plain tensor of finite numbers, or one larger than what is stored for it.
    """
    for name, value in weights.items():
        plain = isinstance(name, str) and type(value) in (Tensor, nn.Parameter)
        if not plain or value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise UserError(f"{path}: its weight {name} is no plain tensor.")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise UserError(f"{path}: its weight {name} is larger than what is stored for it.")
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise UserError(f"{path}: its weight {name} is not finite.")


def advised(problem: Problem, path: Path) -> Problem:
    """Return a problem of a checkpoint's configuration with its file, and with the advice that fits the verbs."""
    if problem.advice == TRUST:
        problem = replace(problem, advice=TRUST_FLAG)
    return problem.within(path)
