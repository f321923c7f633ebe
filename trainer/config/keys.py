"""The keys of each group of a configuration: types, defaults, limits, meanings and effects. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trainer.config.declare import FILE, FREE, MOST_AT_A_TIME, REPEATS, SPLITS, SWITCH, key
from trainer.config.values import Duration

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
        None,
        "initial weights: none, default or a name (torchvision's published ones), a file, or a run folder",
        word="none",
    )
    cache_features: bool | None = key(
        None,
        "cache the outputs of the frozen layers; auto: if they are the same in every epoch",
        word="auto",
        choices=("auto", "false"),
        off=False,
    )


@dataclass(frozen=True)
class DataConfig(ComponentConfig):
    """The data: its source, splits and labels, and its transfer to the device."""

    root: str | None = key(
        "${oc.env:TRAINER_DATA,data}",
        "folder of the data; default: $TRAINER_DATA, else ./data; of an image table: its own folder",
        **FREE,
        stackable=False,
    )
    valid_fraction: float = key(0.2, "fraction of the training samples held out for validation", gt=0, lt=1, **SPLITS)
    test_fraction: float = key(
        0.2, "fraction of all samples held out for testing if the data has no test split", gt=0, lt=1, **SPLITS
    )
    seed: int | None = key(None, "seed of splitting, order and augmentation; default: seed", ge=0, **SPLITS, **REPEATS)
    resident: bool | None = key(
        None, "keep the whole data set on the device instead of streaming it; auto: if it fits", **SWITCH, **FREE
    )
    workers: int | None = key(
        None,
        "worker processes that load streamed samples; default: one per core, at most 4",
        ge=0,
        le=MOST_AT_A_TIME,
        **FREE,
    )
    split_file: str | None = key(
        None, "table with the split of each sample, such as another run's split.csv", evaluation="typed", **FILE
    )
    per_class: int | None = key(None, "largest number of training samples per class", ge=1, **SPLITS)
    folds: int | None = key(None, "number of folds for cross-validation", ge=2, **SPLITS)
    fold: int | None = key(
        None,
        "index of the fold to validate on, from 0: data.fold=range(5)",
        ge=0,
        **{**SPLITS, **REPEATS, "changes": "build"},
    )
    balance: str | None = key(
        None,
        "handling of imbalanced classes; sampler: draw each equally often (with replacement), loss: class weights",
        word="none",
        choices=("none", "sampler", "loss"),
        evaluation="ignored",
    )
    mean: list[float] | None = key(
        None,
        "mean of each channel of the images, 1 is white; null: of the weights' preset, else of the data",
        evaluation="ignored",
    )
    std: list[float] | None = key(None, "standard deviation of each channel; as data.mean", gt=0, evaluation="ignored")
    relabel: dict[str, Any] | None = key(
        None, "new classes as {name: [old classes]}; the value `rest` takes all others"
    )


@dataclass(frozen=True)
class LossConfig(ComponentConfig):
    """The loss."""

    weight: Any = key(None, "class weights: balanced, or a list in the order of the classes", stackable=True)


@dataclass(frozen=True)
class OptimConfig(ComponentConfig):
    """The optimizer."""

    backbone_lr: float | None = key(
        None, "learning rate of all layers but the last; null: optim.lr", gt=0, stackable=False
    )
    layer_decay: float | None = key(
        None,
        "factor on the learning rate per layer below the head, such as 0.8; null: no decay",
        gt=0,
        le=1,
        stackable=False,
    )
    decay_all: bool = key(
        True,
        "apply weight decay to biases and norms too; false: only to weights of two or more dimensions",
        stackable=False,
    )


@dataclass(frozen=True)
class ScheduleConfig(ComponentConfig):
    """The schedule of the learning rate."""

    interval: str = key(
        "step",
        "when the scheduler steps: after every optimizer step, epoch or validation",
        choices=("step", "epoch", "validation"),
        stackable=False,
    )
    warmup_epochs: float = key(0.0, "epochs of linear warm-up before the schedule starts", ge=0)


@dataclass(frozen=True)
class AugmentConfig(ComponentConfig):
    """The augmentation of training samples."""

    mixup: float = key(0.0, "mix pairs of samples with ratios from Beta(mixup, mixup); 0: off", ge=0)
    cutmix: float = key(0.0, "paste a rectangle of another image, its area from Beta(cutmix, cutmix); 0: off", ge=0)


@dataclass(frozen=True)
class InitConfig:
    """The initialisation of the weights."""

    name: str | None = key(
        None,
        "initialisation of all linear and convolutional layers",
        word="default",
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
    activation: str | None = key(
        None,
        "nonlinearity that determines the gain; auto: model.activation, else relu",
        word="auto",
        choices=("auto", "none", "relu", "leaky_relu", "elu", "silu", "gelu", "selu", "sigmoid", "tanh"),
    )
    bound: float = key(0.05, "with init=uniform, weights are drawn from U(-bound, bound)", gt=0)


@dataclass(frozen=True)
class EmaConfig:
    """The moving average of the weights, which is evaluated and saved instead of the raw ones."""

    decay: float | None = key(None, "decay of the average per step, such as 0.999; null: no average", gt=0, lt=1)


@dataclass(frozen=True)
class CheckpointConfig:
    """The times at which a run is saved, and the files that it keeps."""

    every: Duration | None = key(
        None,
        "how often to save: auto (at ends of epochs, in under 2 % of the time), or a duration: 1ep, 200st, 5min",
        word="auto",
        pattern=r"[1-9][0-9]*(ep|st|min)",
        expected="auto or a duration such as 1ep, 200st or 5min",
        stackable=False,
    )
    keep: str | None = key(
        None,
        "weights that are kept: best,last, or in addition all validations, or the newest N of them",
        word="best,last",
        pattern=r"all|[1-9][0-9]{0,5}",
        expected="all, or a number of validations from 1",
        stackable=False,
    )


@dataclass(frozen=True)
class LoggerConfig:
    """The tracker that a run is reported to, besides metrics.csv."""

    name: str = key("csv", "csv alone, or a tracker in addition: trainer list trackers")
    project: str = key("trainer", "mlflow's experiment or wandb's project")
    uri: str | None = key(None, "mlflow's tracking URI, such as http://host:5000; null: outputs/mlflow.db")
    online: bool = key(False, "send results to wandb over the network during the run")


@dataclass(frozen=True)
class DebugConfig:
    """The settings of `debug=`."""

    batches: int | None = key(None, "use at most this many batches of each split", ge=1)
    overfit: bool = key(
        False,
        "train on one batch until accuracy is 1.0 and the loss near 0, and report whether it succeeded",
        alone=True,
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
