"""The whole configuration, typed and in range: the keys of the loop are declared here, those of groups in keys.py.

A group with a `_target_` (model, data, ...) has keys of its own and the target's arguments, which are checked against
the target's signature in `trainer.components.targets`. Does not import torch.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from trainer.config import keys, sweep_keys
from trainer.config.declare import ARGUMENTS_OF_TABLES, COUNT, FREE, REPEATS, SWITCH, group, key
from trainer.config.values import Duration, one_of
from trainer.data.metrics import DIRECTIONS
from trainer.traits import TRAITS

DEVICES = one_of(name for kind, entry in TRAITS.items() for name in [kind, f"{kind}:N"][: 1 + entry.numbered])


@dataclass(frozen=True)
class MetricConfig(keys.ComponentConfig):
    """A metric that is computed beside those of the task."""

    better: str = key("max", "whether the largest or the smallest value is the best", choices=("max", "min"))


@dataclass(frozen=True)
class Config:
    """The whole configuration, typed and in range."""

    model: keys.ModelConfig = group(
        keys.ModelConfig, arguments={"dropout": {"changes": "build", "stackable": True}}, evaluation="followed"
    )
    data: keys.DataConfig = group(keys.DataConfig, arguments=ARGUMENTS_OF_TABLES | {"cache": FREE}, evaluation="typed")
    loss: keys.LossConfig = group(
        keys.LossConfig, arguments={"label_smoothing": {"stackable": True}}, changes="build", evaluation="followed"
    )
    optim: keys.OptimConfig = group(
        keys.OptimConfig, arguments={"_target_": {"stackable": False}}, changes="result", stackable=True
    )
    schedule: keys.ScheduleConfig = group(
        keys.ScheduleConfig, arguments={"_target_": {"stackable": False}}, changes="result", stackable=True, off=True
    )
    augment: keys.AugmentConfig = group(keys.AugmentConfig, changes="build", off=True)
    ema: keys.EmaConfig = group(keys.EmaConfig, changes="result", off=True)
    metric: dict[str, MetricConfig] = key({}, "metrics beside those of the task, by name", evaluation="followed")
    init: keys.InitConfig = group(keys.InitConfig, changes="build", stackable=True)
    logger: keys.LoggerConfig = group(keys.LoggerConfig, **FREE)
    checkpoint: keys.CheckpointConfig = group(keys.CheckpointConfig, **FREE)
    debug: keys.DebugConfig = group(keys.DebugConfig, evaluation="followed")
    sweep: sweep_keys.SweepConfig = group(sweep_keys.SweepConfig, **FREE)

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
    device: str | None = key(
        None,
        f"auto ({', else '.join(TRAITS)}), {DEVICES}",
        word="auto",
        pattern="|".join(kind + r"(:[0-9]{1,4})?" * entry.numbered for kind, entry in TRAITS.items()),
        expected=f"auto, {DEVICES}",
        evaluation="typed",
        **FREE,
    )
    threads: int | None = key(
        None,
        "number of CPU threads; auto: torch's default; the number used is stored",
        evaluation="typed",
        **COUNT,
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
    validate_every: Duration = key(
        Duration(1, "ep"),
        "interval between validations, in epochs or steps: 1ep, 200st",
        pattern=r"[1-9][0-9]*(ep|st)",
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
    test: bool | None = key(
        None,
        "test the best checkpoint at the end; auto: in single runs, but not in jobs of a sweep",
        **SWITCH,
    )
    plots: bool | None = key(
        None,
        "draw plots at the end; auto: in single runs, but not in jobs of a sweep",
        **SWITCH,
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

    output: str | None = key(None, "folder of the run folders; default: $TRAINER_OUTPUT, else outputs", **FREE)

    @property
    def data_seed(self) -> int:
        """The seed of split, order and augmentation."""
        return self.seed if self.data.seed is None else self.data.seed

    @property
    def direction(self) -> str:
        """Whether the largest (`max`) or the smallest (`min`) value of `monitor` is the best."""
        return DIRECTIONS.get(self.monitor) or self.metric[self.monitor.removeprefix("valid_")].better

    def components(self, groups: Iterable[str]) -> dict[str, keys.ComponentConfig]:
        """Return what has a `_target_` in these groups, by key: `model`, and `metric.NAME` for each metric."""
        chosen: dict[str, keys.ComponentConfig] = {}
        for name in groups:
            one = getattr(self, name)
            chosen |= {f"{name}.{each}": one[each] for each in one} if isinstance(one, dict) else {name: one}
        return chosen

    @property
    def own_code(self) -> dict[str, str]:
        """The targets from outside this program and its libraries, by key; see `components`."""
        names = {name: str(each.target) for name, each in self.components(GROUPS).items() if each.target is not None}
        return {name: target for name, target in names.items() if target.partition(".")[0] not in OUR_MODULES}


GROUPS = ("model", "data", "loss", "optim", "schedule", "augment", "metric")
# Importing them, and building what is in them, leaves no trace.
OUR_MODULES = ("trainer", "torch", "torchvision", "torchmetrics")


def defaults() -> dict[str, Any]:
    """Return all keys with their defaults as a plain tree, for Hydra to compose over."""
    return _own_keys(Config())


def _own_keys(node: Any) -> dict[str, Any]:
    values = [(f, getattr(node, f.name)) for f in own_fields(node)]
    return {f.name: _own_keys(v) if dataclasses.is_dataclass(v) else as_typed(f, v) for f, v in values}


def own_fields(group: Any) -> list[dataclasses.Field]:
    """Return the declared keys of a group: all fields but `target` and `arguments`."""
    return [f for f in dataclasses.fields(group) if f.name not in ("target", "arguments")]


def as_typed(declared: dataclasses.Field, value: Any) -> Any:
    """Return the value of a key as a user types it: None may have a word, such as `auto`."""
    if value is None:
        return declared.metadata.get("word")
    return str(value) if isinstance(value, Duration) else value


def documented_keys(cls: type = Config, prefix: str = "") -> Iterable[tuple[str, dataclasses.Field]]:
    """Yield (dotted key, field) of all keys that a user may set, in the order of declaration."""
    hints = typing.get_type_hints(cls)
    for f in own_fields(cls):
        if dataclasses.is_dataclass(hints[f.name]):
            yield from documented_keys(hints[f.name], f"{prefix}{f.name}.")
        elif typing.get_origin(hints[f.name]) is not dict:  # metrics, whose names are the user's
            yield prefix + f.name, f
