"""Resolve every `_target_`; no other module turns a name from a configuration into code."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset

from trainer.components.arguments import FROM_TASK, argument_problems, distrusted
from trainer.components.objects import is_object, object_of
from trainer.components.target import Target, Targets, returned_classes
from trainer.config.keys import ComponentConfig
from trainer.config.schema import Config
from trainer.config.sizes import FROM_DATA
from trainer.config.stored import TRUST
from trainer.data.augment.base import Augmentation
from trainer.data.source import Source
from trainer.errors import Problem, UserError, did_you_mean

# What a configuration that was read from a file may name, by group: these classes and functions of this program,
# classes of these modules of torch, and torchvision's builders of models. Nothing else is safe: some functions that
# are annotated like builders run the text they are given.
STORED_OURS = {
    "model": {
        *("trainer.models.cnn.CNN", "trainer.models.cnn.SequentialCNN"),
        *("trainer.models.lenet.LeNet5", "trainer.models.lenet.Net"),
        *("trainer.models.mlp.ANN", "trainer.models.mlp.MLP", "trainer.models.mlp.MNISTClassifier"),
        *("trainer.models.mlp.Perceptron", "trainer.models.sequential.sequential"),
        *("trainer.models.vision.timm_model", "trainer.models.vision.torchvision_model"),
    },
    "data": {
        *(
            "trainer.data.arrays.source.array_file",
            "trainer.data.huggingface.huggingface_dataset",
            "trainer.data.images.folder.image_folder",
        ),
        *("trainer.data.images.table.image_table", "trainer.data.sources.digits"),
        *("trainer.data.sources.torchvision_dataset", "trainer.data.tables.table.bundled_table"),
        "trainer.data.tables.table.csv_table",
    },
    "augment": {
        *("trainer.data.augment.chain.Chain", "trainer.data.augment.colour.ColourJitter"),
        *("trainer.data.augment.erasing.RandomErasing", "trainer.data.augment.geometry.FlipCrop"),
        *("trainer.data.augment.geometry.RandomAffine", "trainer.data.augment.geometry.RandomResizedCrop"),
        "trainer.data.augment.strong.Strong",
    },
}
STORED_THEIRS = {
    "model": ("torch.nn",),
    "loss": ("torch.nn",),
    "optim": ("torch.optim",),
    "schedule": ("torch.optim.lr_scheduler",),
    "metric": ("torchmetrics.classification", "torchmetrics.regression"),
}
BUILDERS = "torchvision.models"
SCHEDULE_LENGTHS = ("T_max", "total_steps")
REQUIRED = ("model", "data", "optim", "metric")  # groups without a default


@dataclass(frozen=True)
class PlugPoint:
    """The targets that a group accepts: subclasses of `base`, or functions annotated to return `result`.

    Attributes:
        words: description of `base` in messages.
        passed: arguments that this program passes if the configuration does not set them.
    """

    base: type
    words: str
    result: type | None = None
    passed: tuple[str, ...] = ()


PLUG_POINTS = {
    "model": PlugPoint(
        nn.Module,
        "a torch.nn.Module",
        nn.Module,
        FROM_DATA,
    ),
    "data": PlugPoint(
        Dataset, "a torch.utils.data.Dataset", Source, ("root", "split", "size", "resize", "progress", "schema")
    ),
    "loss": PlugPoint(nn.Module, "a loss from torch.nn"),
    "optim": PlugPoint(Optimizer, "a torch.optim.Optimizer", passed=("params",)),
    "schedule": PlugPoint(
        LRScheduler,
        "a scheduler from torch.optim.lr_scheduler",
        passed=("optimizer", "max_lr", "mode", "T_max", "total_steps"),
    ),
    "augment": PlugPoint(Augmentation, "a trainer.data.augment.base.Augmentation", passed=("mean", "std")),
    "metric": PlugPoint(nn.Module, "a torchmetrics.Metric or another torch.nn.Module", passed=("task", *FROM_TASK)),
}


def resolve_targets(config: Config, groups: Iterable[str], *, trusted: bool) -> Targets:
    """Resolve and check the targets of these groups; see `find_targets`.

    Raises:
        UserError: a target or an argument is wrong; the exception holds all problems.
    """
    targets, problems = find_targets(config, groups, trusted=trusted)
    if problems:
        raise UserError(*problems)
    return targets


def find_targets(config: Config, groups: Iterable[str], *, trusted: bool) -> tuple[Targets, list[Problem]]:
    """Resolve the targets of these groups and check their arguments; nothing is built but a trial optimizer.

    A configuration that is not `trusted`, because it was read from a file, may name only what is listed above.

    Returns:
        The valid targets, and all problems.
    """
    targets: dict[str, Target] = {}
    problems: list[Problem] = []
    for group, component in config.components(groups).items():
        if component.target is None:
            problems += _without_target(group, component)
            continue
        try:
            factory = resolve(component.target, group, trusted=trusted)
        except UserError as error:
            problems += error.problems
            continue
        target = Target(group, component.target, factory, component.arguments)
        wrong = argument_problems(target, PLUG_POINTS[group.partition(".")[0]].passed)
        wrong += [] if trusted else distrusted(target)
        problems += wrong
        if not wrong:
            targets[group] = target
    if not problems and "optim" in targets:
        problems += _try_optimizer(targets["optim"])
    return Targets(targets), problems


def _without_target(group: str, component: ComponentConfig) -> list[Problem]:
    kind = group.partition(".")[0]
    if kind in REQUIRED:
        return [Problem(f"{group}._target_", f"a value is needed, {PLUG_POINTS[kind].words}")]
    reason = f"no such key: {group} has no _target_ that takes it"
    return [Problem(f"{group}.{key}", reason) for key in component.arguments]


def resolve(name: Any, group: str, *, trusted: bool) -> Callable[..., Any]:
    """Return the class or function of this name, if it fits the group.

    Raises:
        UserError: it does not exist, does not fit, or is not trusted.
    """
    if is_object(name):
        return object_of(group, name)
    kind, key = group.partition(".")[0], f"{group}._target_"
    point = PLUG_POINTS[kind]
    if not isinstance(name, str) or not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", name):
        leaf = str(name).strip(".") if str(name).strip(".").isidentifier() else "Name"
        raise UserError(Problem(key, f"expected module.name, such as mymodule.{leaf}", given=str(name)))
    module_name, _, leaf = name.rpartition(".")
    ours = name in STORED_OURS.get(kind, ())
    builder = kind == "model" and module_name == BUILDERS
    untrusted = Problem(key, "a stored configuration names code outside this program", given=name, advice=TRUST)
    if not trusted and not (ours or builder or module_name in STORED_THEIRS.get(kind, ())):
        raise UserError(untrusted)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise
        reason = f"there is no module {error.name}, neither installed nor in the current folder"
        raise UserError(Problem(key, reason, given=name)) from error
    factory = getattr(module, leaf, None)
    if not trusted and not _is_vouched_for(factory, leaf, module_name):
        raise UserError(untrusted)
    if factory is None and module_name == "__main__":
        reason = "what a script or a notebook defines is known to its own process alone"
        raise UserError(Problem(key, reason, given=name, advice=f"Move it to a file of its own: mymodule.{leaf}."))
    if factory is None:
        advice = did_you_mean(leaf, vars(module), module_name + ".")
        raise UserError(Problem(key, f"{module_name} has no {leaf}", given=name, advice=advice))
    if not _fits(factory, point):
        raise UserError(Problem(key, f"it is not {point.words}", given=name))
    return factory


def _is_vouched_for(factory: Any, name: str, module_name: str) -> bool:
    """Return whether a stored configuration may name this object of a module that `resolve` has accepted."""
    if module_name == BUILDERS:
        return inspect.isfunction(factory) and name in torchvision.models.list_models(torchvision.models)
    library = module_name.partition(".")[0]
    if library in ("torch", "torchmetrics"):
        return factory is None or (inspect.isclass(factory) and factory.__module__.startswith(f"{library}."))
    return True  # `resolve` has compared the whole name


def _fits(factory: Any, point: PlugPoint) -> bool:
    if inspect.isclass(factory):
        return issubclass(factory, point.base)
    returned = returned_classes(factory)
    return (
        point.result is not None and bool(returned) and all(issubclass(r, (point.result, point.base)) for r in returned)
    )


def _try_optimizer(target: Target) -> list[Problem]:
    try:
        trial = target.build([nn.Parameter(torch.zeros(1))])
    except UserError as error:
        return error.problems
    closure = inspect.signature(type(trial).step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        reason = "it evaluates the loss several times a step, which this loop does not support"
        return [Problem("optim._target_", reason, given=target.name)]
    return []
