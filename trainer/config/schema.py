"""The whole configuration, typed and in range: the keys of the loop are declared here, those of groups in keys.py.

A group with a `_target_` (model, data, ...) has keys of its own and the target's arguments, which are checked against
the target's signature in `trainer.components.targets`. Does not import torch.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from trainer.config.declare import ARGUMENTS_OF_TABLES, FREE, REPEATS, SWITCH, group, key, switch
from trainer.config.keys import (
    AugmentConfig,
    CheckpointConfig,
    ComponentConfig,
    DataConfig,
    DebugConfig,
    EmaConfig,
    InitConfig,
    LoggerConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
    SweepConfig,
)
from trainer.config.values import convert
from trainer.data.metrics import DIRECTIONS
from trainer.errors import Problem, did_you_mean, show


@dataclass(frozen=True)
class Config:
    """The whole configuration, typed and in range."""

    model: ModelConfig = group(
        ModelConfig, arguments={"dropout": {"changes": "build", "stackable": True}}, evaluation="followed"
    )
    data: DataConfig = group(DataConfig, arguments=ARGUMENTS_OF_TABLES | {"cache": FREE}, evaluation="typed")
    loss: LossConfig = group(
        LossConfig, arguments={"label_smoothing": {"stackable": True}}, changes="build", evaluation="followed"
    )
    optim: OptimConfig = group(
        OptimConfig, arguments={"_target_": {"stackable": False}}, changes="result", stackable=True
    )
    schedule: ScheduleConfig = group(
        ScheduleConfig, arguments={"_target_": {"stackable": False}}, changes="result", stackable=True, off=True
    )
    augment: AugmentConfig = group(AugmentConfig, changes="build", off=True)
    ema: EmaConfig = group(EmaConfig, changes="result", off=True)
    init: InitConfig = group(InitConfig, changes="build", stackable=True)
    logger: LoggerConfig = group(LoggerConfig, **FREE)
    checkpoint: CheckpointConfig = group(CheckpointConfig, **FREE)
    debug: DebugConfig = group(DebugConfig, evaluation="followed")
    sweep: SweepConfig = group(SweepConfig, **FREE)

    epochs: int = key(30, "largest number of passes over the training samples", ge=1, changes="build", stackable=True)
    batch_size: int = key(64, "samples per forward pass", ge=1, evaluation="followed")
    drop_last: bool = key(False, "drop the last training batch of an epoch if it is not full")
    accumulate: int = key(1, "number of batches whose gradients are accumulated for one optimizer step", ge=1)
    clip_norm: float | None = key(
        None, "largest norm of the gradient; null: off", gt=0, changes="result", stackable=True
    )
    clip_value: float | None = key(
        None, "largest absolute element of the gradient", gt=0, changes="result", stackable=True
    )
    seed: int = key(0, "seed of all random numbers", ge=0, lt=2**63, evaluation="followed", **REPEATS)
    trial: int | None = key(None, "index of a random draw: trial=range(10)", ge=0, **REPEATS)
    device: str = key(
        "auto",
        "auto (cuda, else mps, else cpu), cuda, cuda:N, mps or cpu",
        pattern=r"auto|cuda(:\d+)?|mps|cpu",
        expected="auto, cuda, cuda:N, mps or cpu",
        evaluation="typed",
        **FREE,
    )
    threads: int | None = switch(
        None,
        "number of CPU threads; auto: torch's default; the number used is stored",
        pattern=r"auto|[1-9]\d*",
        evaluation="typed",
        expected="auto or a number from 1",
    )
    precision: str = key(
        "float32",
        "precision of forward and backward pass; bfloat16 and float16: autocast; float64: all computation",
        choices=("float32", "bfloat16", "float16", "float64"),
        evaluation="followed",
        alone=("float16",),
    )
    compile: bool = key(False, "compile the model with torch.compile", evaluation="followed", alone=True, off=False)
    deterministic: bool = key(
        False, "use only deterministic algorithms (torch.use_deterministic_algorithms)", evaluation="followed"
    )
    monitor: str = key(
        "valid_loss",
        "column of metrics.csv that determines the best checkpoint",
        choices=tuple(DIRECTIONS),
        evaluation="followed",
    )
    patience: int | None = key(
        10,
        "stop after this many validations in a row without a new best; null: never",
        ge=1,
        changes="result",
        stackable=True,
        off=None,
    )
    min_delta: float = key(0.0, "a new best must improve by more than this", ge=0, changes="result", stackable=True)
    validate_every: str = key(
        "1ep",
        "interval between validations, in epochs or steps: 1ep, 200st",
        pattern=r"[1-9]\d*(ep|st)",
        expected="a number of epochs or steps such as 1ep or 200st",
    )
    baseline: bool = key(False, "evaluate once before training (epoch 0 in metrics.csv)", off=False)
    freeze: list[str] = key(
        [],
        "freeze the parameters whose names match these patterns, such as conv1.*; backbone: all but the head",
        alone=True,
    )
    unfreeze_at: int | None = key(
        None, "epoch, from 0, at which the frozen parameters are unfrozen", ge=1, alone=True, off=None
    )
    test: bool | None = switch(
        None,
        "test the best checkpoint at the end; auto: in single runs, but not in jobs of a sweep",
        choices=SWITCH,
    )
    plots: bool | None = switch(
        None,
        "draw plots at the end; auto: in single runs, but not in jobs of a sweep",
        choices=SWITCH,
        **FREE,
    )
    max_steps: int | None = key(None, "stop after this many optimizer steps", ge=1, off=None, **FREE)
    max_minutes: float | None = key(None, "stop after this many minutes of training", gt=0, alone=True, **FREE)
    resume: str | None = key(None, "run folder to continue; latest: the newest unfinished one", **FREE)
    resume_force: bool = key(False, "resume even if a key that affects the result has changed", **FREE)
    trust: bool = key(
        False, "allow a stored configuration to name code outside this program and environment variables", **FREE
    )
    name: str | None = key(
        None,
        "name of the run folder, after the time; default: <data>-<model>",
        pattern=r"[\w.+=-]+",
        expected="letters, digits and . _ + = -",
        **FREE,
    )

    @property
    def data_seed(self) -> int:
        """The seed of split, order and augmentation."""
        return self.seed if self.data.seed is None else self.data.seed


GROUPS = ("model", "data", "loss", "optim", "schedule", "augment")


def defaults() -> dict[str, Any]:
    """Return all keys with their defaults as a plain tree, for Hydra to compose over."""
    return _own_keys(Config())


def _own_keys(node: Any) -> dict[str, Any]:
    tree = {}
    for f in dataclasses.fields(node):
        if f.name in ("target", "arguments"):
            continue
        value = getattr(node, f.name)
        tree[f.name] = _own_keys(value) if dataclasses.is_dataclass(value) else as_typed(f, value)
    return tree


def as_typed(declared: dataclasses.Field, value: Any) -> Any:
    """Return the value of a key as a user types it: a switch that is None is `auto`."""
    return "auto" if value is None and declared.metadata.get("auto") else value


def documented_keys(cls: type = Config, prefix: str = "") -> Iterable[tuple[str, dataclasses.Field]]:
    """Yield (dotted key, field) of all keys that a user may set, in the order of declaration."""
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[f.name]):
            yield from documented_keys(hints[f.name], f"{prefix}{f.name}.")
        elif f.name not in ("target", "arguments"):
            yield prefix + f.name, f


def parse(tree: dict[str, Any]) -> tuple[Config, list[Problem]]:
    """Return the typed configuration of a composed, resolved tree, and all its problems.

    Unknown keys, wrong types and values out of range are problems. A key with a problem gets its default, so that the
    other keys can be checked too.
    """
    problems: list[Problem] = []
    return _parse(Config, tree, "", problems), problems


def _parse(cls: type, tree: Any, where: str, problems: list[Problem]) -> Any:
    if not isinstance(tree, dict):
        reason = f"expected keys below it, such as {_example(cls, where)}"
        problems.append(Problem(where.removesuffix("."), reason, given=str(tree)))
        return cls()
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    is_component = issubclass(cls, ComponentConfig)
    for name, value in tree.items():
        path = f"{where}{name}"
        if is_component and name == "_target_":
            values["target"] = value
        elif name not in fields or (is_component and name in ("target", "arguments")):
            if is_component:
                arguments[name] = value
                _refuse_non_finite(path, value, problems)
            else:
                problems.append(Problem(path, "no such key", advice=did_you_mean(name, fields, where)))
        elif dataclasses.is_dataclass(hints[name]):
            values[name] = _parse(typing.cast(type, hints[name]), value, f"{path}.", problems)
        else:
            try:
                values[name] = convert(value, hints[name], fields[name].metadata)
            except ValueError as error:
                near = did_you_mean(show(value), fields[name].metadata.get("choices", ()))
                problems.append(Problem(path, f"expected {error}", given=show(value), advice=near))
    if is_component:
        values["arguments"] = arguments
    return cls(**values)


def _example(cls: Any, where: str) -> str:
    if issubclass(cls, ComponentConfig):
        return f"{where}_target_=..."
    return f"{where}{dataclasses.fields(cls)[0].name}=..."


def _refuse_non_finite(path: str, value: Any, problems: list[Problem]) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(Problem(path, "expected a finite number", given=show(value)))
