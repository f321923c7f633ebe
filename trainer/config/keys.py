"""The keys of each group of a configuration: types, defaults, limits, meanings and effects. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trainer.config.declare import FREE, REPEATS, SPLITS, SWITCH, key, switch

DURATION = r"[1-9]\d*(ep|st|min)"


WARM_UP = 10  # steps that are not profiled: the first ones allocate memory, choose kernels and start workers
MOST_STEPS = 1000  # a longer trace fills the memory, and no viewer opens it


@dataclass(frozen=True)
class ComponentConfig:
    """A group with a `_target_`: the class or function to call, and its arguments."""

    target: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelConfig(ComponentConfig):
    """The model."""

    output: str = key("logits", "what the model returns", choices=("logits", "probabilities", "log_probabilities"))
    weights: str | None = key(
        "none", "to start from: none, default or a name (torchvision's published ones), a file, or a run's folder"
    )
    cache_features: bool | None = switch(
        None,
        "keep the outputs of the frozen part and train on them; auto: where they are the same in every epoch",
        choices=("auto", "false"),
        off=False,
    )


@dataclass(frozen=True)
class DataConfig(ComponentConfig):
    """The data: its source, and how samples are split, labelled and brought to the device."""

    root: str = key(
        "${oc.env:TRAINER_DATA,data}",
        "folder of the data; default: $TRAINER_DATA, else ./data",
        **FREE,
        stackable=False,
    )
    valid_fraction: float = key(0.2, "share of the training samples held out for validation", gt=0, lt=1, **SPLITS)
    test_fraction: float = key(
        0.2, "share of all samples held out for the test where no test set exists", gt=0, lt=1, **SPLITS
    )
    seed: int | None = key(None, "seed of split, order and augmentation; default: seed", ge=0, **SPLITS, **REPEATS)
    resident: bool | None = switch(
        None, "whole data set on the device, or streamed; auto: when it fits", choices=SWITCH, **FREE
    )
    workers: int | None = key(
        None, "processes that decode streamed samples; default: one per core, at most 4", ge=0, **FREE
    )
    per_class: int | None = key(None, "keep at most so many training samples of each class", ge=1, **SPLITS)
    folds: int | None = key(None, "cross-validation: so many folds, each the validation split once", ge=2, **SPLITS)
    fold: int | None = key(
        None,
        "which of the folds validates, counted from 0: data.fold=range(5)",
        ge=0,
        **{**SPLITS, **REPEATS, "changes": "build"},
    )
    balance: str = key(
        "none",
        "classes of different size: sampler draws each equally often (with replacement), loss weighs them",
        choices=("none", "sampler", "loss"),
        evaluation="ignored",
    )
    relabel: dict[str, Any] | None = key(
        None, "new classes as {name: [old classes]}; `rest` as a value takes the others"
    )


@dataclass(frozen=True)
class LossConfig(ComponentConfig):
    """The loss."""

    weight: Any = key(None, "weight of each class: balanced, or a list in the order of the classes", stackable=True)


@dataclass(frozen=True)
class OptimConfig(ComponentConfig):
    """The optimizer."""

    backbone_lr: float | None = key(
        None, "learning rate of all but the model's last layer; null: the same", gt=0, stackable=False
    )
    layer_decay: float | None = key(
        None,
        "each layer's learning rate as a share of the next one's, such as 0.8; null: all the same",
        gt=0,
        le=1,
        stackable=False,
    )
    decay_all: bool = key(
        True, "weight decay also for biases and norms; false: only for weights of two dimensions up", stackable=False
    )


@dataclass(frozen=True)
class ScheduleConfig(ComponentConfig):
    """The schedule of the learning rate."""

    interval: str = key(
        "step",
        "when the learning rate changes: each optimizer step, epoch or validation",
        choices=("step", "epoch", "validation"),
        stackable=False,
    )
    warmup_epochs: float = key(0.0, "epochs of linear warm-up before the schedule starts", ge=0)


@dataclass(frozen=True)
class AugmentConfig(ComponentConfig):
    """The augmentation of training samples."""

    mixup: float = key(0.0, "mix pairs of samples, their shares from Beta(mixup, mixup); 0: not", ge=0)
    cutmix: float = key(0.0, "paste a rectangle of another image, its share from Beta(cutmix, cutmix); 0: not", ge=0)


@dataclass(frozen=True)
class InitConfig:
    """The initialisation of the weights."""

    name: str = key(
        "default",
        "scheme of all linear and convolutional layers",
        choices=(
            "default",
            "xavier_uniform",
            "xavier_normal",
            "kaiming_uniform",
            "kaiming_normal",
            "lecun_normal",
            "orthogonal",
            "uniform",
        ),
    )
    activation: str = key(
        "auto",
        "what the gain is for; auto: model.activation, else relu",
        choices=("auto", "none", "relu", "leaky_relu", "elu", "silu", "gelu", "selu", "sigmoid", "tanh"),
    )
    bound: float = key(0.05, "of init=uniform: weights lie between -bound and bound", gt=0)


@dataclass(frozen=True)
class EmaConfig:
    """The moving average of the weights, which is evaluated and saved instead of the raw ones."""

    decay: float | None = key(None, "share of the average that stays each step, such as 0.999; null: none", gt=0, lt=1)


@dataclass(frozen=True)
class CheckpointConfig:
    """The times at which a run is saved."""

    every: str = key(
        "auto",
        "when to save: auto (ends of epochs, under 2 % of the time), or a duration: 1ep, 200st, 5min",
        pattern=rf"auto|{DURATION}",
        expected="auto or a duration such as 1ep, 200st or 5min",
        stackable=False,
    )


@dataclass(frozen=True)
class HalvingConfig:
    """Successive halving: the weaker jobs of a sweep end early."""

    factor: int | None = key(None, "keep one job in so many at each rung; null: every job runs to its end", ge=2)
    min_epochs: int = key(1, "epochs of the first rung; each further one has `factor` times as many", ge=1)


@dataclass(frozen=True)
class SweepConfig:
    """The settings of a sweep, `train -m`."""

    workers: int | None = switch(
        None,
        "jobs at a time; auto: one per CPU core, or one per GPU",
        pattern=r"auto|[1-9]\d*",
        expected="auto or a number from 1",
    )
    on_error: str = key("continue", "whether a failed job ends the sweep", choices=("continue", "stop"))
    seed: int = key(0, "of random draws such as ${loguniform:1e-4,1e-2}", ge=0)
    dry_run: bool = key(False, "only show the jobs and estimate time and disk")
    sampler: str = key("none", "how trials are chosen; tpe: by optuna, from what was found", choices=("none", "tpe"))
    trials: int | None = key(None, "of a sampler: how many jobs", ge=1)
    stack: bool | int | None = switch(
        False,
        "train jobs of equal shapes in one pass: true, auto (where measured to gain), or at most so many at a time",
        pattern=r"auto|true|false|[1-9]\d*",
        expected="true, false, auto or a number from 1",
    )
    halving: HalvingConfig = field(default_factory=HalvingConfig)


@dataclass(frozen=True)
class LoggerConfig:
    """The tracker that a run is reported to, besides metrics.csv."""

    name: str = key("csv", "csv alone, or a tracker beside it: trainer list trackers")
    project: str = key("trainer", "mlflow's experiment, wandb's project")
    uri: str | None = key(None, "mlflow's store, such as http://host:5000; null: outputs/mlflow.db")
    online: bool = key(False, "wandb sends results over the network while the run goes on")


@dataclass(frozen=True)
class DebugConfig:
    """The settings of `debug=`."""

    batches: int | None = key(None, "use only so many batches of each part of the data", ge=1)
    overfit: bool = key(
        False, "train on one batch until accuracy is 1.0 and the loss near 0, and say whether it got there", alone=True
    )
    gradients: bool = key(
        False,
        "watch gradients, weights and activations of each layer: gradients.csv, gradients.png, and warnings",
        alone=True,
        **FREE,
    )
    profile: bool = key(
        False,
        "profile the steps from the eleventh to max_steps: trace.json, profile.txt, profile.json",
        alone=True,
    )
