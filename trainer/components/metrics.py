"""Build the metrics that a configuration adds to those of its task, and try them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from trainer.components.target import Target, Targets
from trainer.config.schema import MetricConfig
from trainer.data.extra_metrics import ExtraMetric, Inputs
from trainer.data.tasks import Task
from trainer.errors import Problem, UserError

LIBRARY = "torchmetrics."
FAMILIES: dict[str, Inputs] = {"Binary": "positive", "Multiclass": "classes", "Multilabel": "labels"}
NATURAL: dict[str, Inputs] = {
    "binary": "classes",
    "multiclass": "classes",
    "multilabel": "labels",
    "regression": "numbers",
}
FITS = {"positive": "two classes", "classes": "classes", "labels": "several labels", "numbers": "numbers"}
MOST_CLASSES = 1000  # of a trial with a sample of each class


def with_metrics(task: Task, config: Mapping[str, MetricConfig], targets: Targets) -> Task:
    """Return the task with the metrics of the configuration, each of which has been tried.

    Raises:
        UserError: a metric does not fit the task, refuses its arguments, or does not return one number.
    """
    extra, problems = [], []
    for name, target in targets.metrics.items():
        try:
            extra.append(_build(name, target, config[name], task))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    return replace(task, extra=tuple(extra)) if extra else task


def _build(name: str, target: Target, config: MetricConfig, task: Task) -> ExtraMetric:
    size = max(2, len(task.classes))
    if task.name == "regression" and "task" in target.parameters and target.name.startswith(LIBRARY):
        raise UserError(_unfit(target, "classes", task))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of samples that some metrics keep until they are computed
        module = target.build(task=task.name, num_classes=size, num_labels=size)
    inputs = _inputs(module, task)
    fitting = {"binary": ("positive", "classes")}.get(task.name, (NATURAL[task.name],))
    if inputs not in fitting:
        raise UserError(_unfit(target, FITS[inputs], task))
    higher = getattr(module, "higher_is_better", None)
    if higher is not None and config.better != (right := "max" if higher else "min"):
        key, reason = f"{target.group}.better", f"the {'largest' if higher else 'smallest'} value of it is the best"
        raise UserError(Problem(key, reason, given=config.better, command=f"{key}={right}"))
    if inputs == "numbers" and hasattr(module, "set_dtype"):
        module.set_dtype(torch.float64)
    metric = ExtraMetric(name, module, inputs)
    metric(*_trial(task))
    return metric


def _inputs(module: nn.Module, task: Task) -> Inputs:
    """Return what a metric is called with: that of its family in torchmetrics, else what suits the task."""
    for base in type(module).__mro__:
        if base.__module__.startswith(LIBRARY + "classification."):
            for family, inputs in FAMILIES.items():
                if base.__name__.startswith(family):
                    return inputs
        if base.__module__.startswith(LIBRARY + "regression."):
            return "numbers"
    return NATURAL[task.name]


def _unfit(target: Target, fits: str, task: Task) -> Problem:
    has = {"regression": "numbers", "multilabel": "several labels"}.get(task.name, f"{len(task.classes)} classes")
    return Problem(target.group, f"{target.name} fits {fits}, and the targets are {has}")


def _trial(task: Task) -> tuple[Tensor, Tensor]:
    """Return made-up estimates [N, C] and targets of a task; of few classes, there is a sample of each."""
    size = max(1, len(task.classes))
    count = max(10, size if size <= MOST_CLASSES else 0)
    draw = torch.Generator().manual_seed(0)
    if not task.classes:
        estimates = torch.rand(count, 1, generator=draw, dtype=torch.float64)
        return estimates, torch.rand(count, generator=draw, dtype=torch.float64)
    estimates = torch.rand(count, size, generator=draw)
    if task.name == "multilabel":
        return estimates, (torch.rand(count, size, generator=draw) > 0.5).float()
    return estimates / estimates.sum(1, keepdim=True), torch.arange(count) % size
