"""Metrics, each declared once, and the reports that hold their values. Does not import torch.

A new metric is an entry of METRICS and its computation, in `trainer.data.classification`, `trainer.data.multilabel` or
`trainer.data.regression`.
The choices of `monitor`, the columns of metrics.csv, the console, the tables and the pages are made from the entries.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

TOP_K = 5  # of `top5_accuracy`
LARGE = 100  # from this size on a number is printed with one decimal
Kind = Literal["classification", "multilabel", "regression"]
OPTIONAL = {"optional": True}  # left out of a file if it does not apply; see trainer.records.schema


@dataclass(frozen=True)
class Metric:
    """A measure of how well a model predicts the samples of a split.

    Attributes:
        name: key in results.json; in metrics.csv its columns are `train_<name>` and `valid_<name>`.
        better: whether the largest or the smallest value is the best.
        tasks: the kinds of tasks it belongs to; empty for every task.
        computed: when it is computed. "train": in training and at every validation; "valid": at every validation;
            "monitored": at a validation only if it is monitored, because it is costly; "test": only for the reports
            of tests and evaluations.
        shown: where it is printed, besides results.json and `trainer compare`. "headline": everywhere, and as the
            single number that stands for a test; "line": everywhere; "table": in tables and on pages; "file": nowhere.
        percent: whether it is a fraction that is printed as a percentage.
        average: "macro" for a mean over classes or labels that each count the same, where the name does not say it.
    """

    name: str
    better: Literal["max", "min"]
    tasks: tuple[Kind, ...]
    computed: Literal["train", "valid", "monitored", "test"]
    shown: Literal["headline", "line", "table", "file"] = "line"
    percent: bool = False
    average: str = ""

    @property
    def label(self) -> str:
        """The name as it is printed."""
        return f"{self.average} {self.name.replace('_', ' ')}".lstrip()

    @property
    def monitors(self) -> list[str]:
        """Columns of metrics.csv that `monitor` may name."""
        splits = {"train": ("train", "valid"), "valid": ("valid",), "monitored": ("valid",), "test": ()}
        return [f"{split}_{self.name}" for split in splits[self.computed]]


_CLASSES: tuple[Kind, ...] = ("classification",)
_LABELS: tuple[Kind, ...] = ("multilabel",)
_BOTH: tuple[Kind, ...] = ("classification", "multilabel")
_NUMBERS: tuple[Kind, ...] = ("regression",)
_ENTRIES = (
    Metric("loss", "min", (), "train"),
    Metric("accuracy", "max", _CLASSES, "train", "headline", percent=True),
    Metric("mean_average_precision", "max", _LABELS, "monitored", "headline"),
    Metric("label_accuracy", "max", _LABELS, "train", percent=True),
    Metric("exact_match", "max", _LABELS, "valid", percent=True),
    Metric(f"top{TOP_K}_accuracy", "max", _CLASSES, "test", "table", percent=True),
    Metric("balanced_accuracy", "max", _CLASSES, "monitored", "table", percent=True),
    Metric("f1", "max", _BOTH, "monitored", average="macro"),
    Metric("micro_f1", "max", _LABELS, "valid"),
    Metric("auroc", "max", _BOTH, "monitored"),
    Metric("precision", "max", _BOTH, "test", "file", average="macro"),
    Metric("recall", "max", _BOTH, "test", "file", average="macro"),
    Metric("nll", "min", _CLASSES, "test", "table"),
    Metric("mse", "min", _NUMBERS, "test", "table"),
    Metric("mae", "min", _NUMBERS, "valid"),
    Metric("rmse", "min", _NUMBERS, "valid", "headline"),
    Metric("r2", "max", _NUMBERS, "valid"),
)
METRICS = {metric.name: metric for metric in _ENTRIES}
# The columns of metrics.csv that `monitor` may name, for all tasks, and which direction is better.
DIRECTIONS: dict[str, str] = {column: metric.better for metric in _ENTRIES for column in metric.monitors}
HEADLINES = tuple(metric.name for metric in _ENTRIES if metric.shown == "headline")


def columns(task: Kind, monitored: Collection[str] = ()) -> list[str]:
    """Return the columns of metrics.csv for a kind of task, with costly metrics if `monitored`."""
    metrics = [metric for metric in _ENTRIES if not metric.tasks or task in metric.tasks]
    train = [f"train_{metric.name}" for metric in metrics if metric.computed == "train"]
    always = ("train", "valid")
    valid = [f"valid_{metric.name}" for metric in metrics if metric.computed in always or metric.name in monitored]
    return train + valid


def costly(task: Kind) -> list[str]:
    """Return the names of a task's metrics that validation computes only if they are monitored."""
    return [metric.name for metric in _ENTRIES if task in metric.tasks and metric.computed == "monitored"]


def shown(*where: str, among: Collection[str]) -> list[Metric]:
    """Return the metrics in `among` that are shown in one of these ways, in the order of declaration.

    Names without a declaration are metrics that a configuration has added, which are shown as a `line`.
    """
    declared = [metric for metric in _ENTRIES if metric.shown in where and metric.name in among]
    return declared + [Metric(name, "max", (), "valid") for name in among if name not in METRICS and "line" in where]


def headline(metrics: Mapping[str, float | None]) -> float | None:
    """Return the value that stands for a whole test: that of the first headline metric that it has."""
    return next((value for name in HEADLINES if (value := metrics.get(name)) is not None), None)


def text(name: str, value: float) -> str:
    """Return the value of a metric as it is printed; `name` may be that of a column or unknown."""
    metric = METRICS.get(name) or METRICS.get(name.removeprefix("train_").removeprefix("valid_"))
    if metric is not None and metric.percent:
        return f"{value:.2%}"
    return f"{value:.4f}" if abs(value) < LARGE else f"{value:,.1f}"


@dataclass(frozen=True)
class ClassReport:
    """How well one class is predicted. Fractions are None if the split has no sample of the class."""

    name: str = field(metadata={"json": "class"})
    correct: int
    total: int
    accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class LabelReport:
    """How well one of several labels is predicted.

    Attributes:
        positives: samples that have the label; the metrics of a label without any are None, and so is `auroc` of one
            that every sample has.
        accuracy: share of the samples for which it is predicted correctly, present or absent.
    """

    name: str = field(metadata={"json": "label"})
    positives: int
    total: int
    accuracy: float
    precision: float | None
    recall: float | None
    f1: float | None
    auroc: float | None
    average_precision: float | None


@dataclass(frozen=True)
class TargetReport:
    """How well one of several numbers is predicted, in its own unit; `r2` is None if it does not vary."""

    name: str = field(metadata={"json": "target"})
    mae: float | None
    rmse: float | None
    r2: float | None


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class SplitReport:
    """Everything measured on one split: the `test` block of results.json.

    Attributes:
        metrics: values by name, `loss` among them; None where the samples do not define one.
        threshold: of two classes, the probability from which the second is predicted; the same for each label.
        per_class: empty without classes.
        confusion_matrix: counts, a row for each true class and a column for each predicted one; empty without classes.
        per_label: of a multi-label task.
        per_target: of a regression on several targets.
        samples: number of samples.
        accuracy_interval: 95 % confidence interval of the accuracy.
    """

    metrics: dict[str, float | None] = field(metadata={"json": "*"})
    threshold: float | None = field(default=None, metadata=OPTIONAL)
    per_class: list[ClassReport] = field(default_factory=list, metadata=OPTIONAL)
    confusion_matrix: list[list[int]] = field(default_factory=list, metadata=OPTIONAL)
    per_label: list[LabelReport] = field(default_factory=list, metadata=OPTIONAL)
    per_target: list[TargetReport] = field(default_factory=list, metadata=OPTIONAL)
    samples: int | None = field(default=None, metadata=OPTIONAL)
    accuracy_interval: Interval | None = field(default=None, metadata=OPTIONAL)


# What the `test` block of results.json already has: no metric of a configuration may have one of these names.
RESERVED = {*METRICS, *(f.name for f in fields(SplitReport))}
