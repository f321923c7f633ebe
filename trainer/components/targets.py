"""What a `_target_` names: the only place that resolves one, judging by kind what may stand there."""

from __future__ import annotations

import importlib
import inspect
import re
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset

from trainer.config.keys import ComponentConfig
from trainer.config.schema import Config
from trainer.config.stored import TRUST
from trainer.data.augment.base import Augmentation
from trainer.data.source import Source
from trainer.errors import Problem, UserError, did_you_mean, show

OUR_MODULES = ("trainer", "torch", "torchvision")  # importing them, and building what is in them, leaves no trace
# What a configuration that was read from a file may name: these classes and functions of this program, classes of
# these modules of torch, and torchvision's builders of models. Nothing else of theirs is safe: among the functions that
# are annotated like builders are some that run the text they are given.
STORED_OURS = {
    "model": {
        *("trainer.models.cnn.CNN", "trainer.models.cnn.SequentialCNN"),
        *("trainer.models.lenet.LeNet5", "trainer.models.lenet.Net"),
        *("trainer.models.mlp.ANN", "trainer.models.mlp.MLP", "trainer.models.mlp.MNISTClassifier"),
        *("trainer.models.mlp.Perceptron", "trainer.models.sequential.sequential"),
        *("trainer.models.vision.timm_model", "trainer.models.vision.torchvision_model"),
    },
    "data": {
        *("trainer.data.images.folder.image_folder", "trainer.data.sources.digits"),
        *("trainer.data.sources.torchvision_dataset", "trainer.data.tables.table.bundled_table"),
        "trainer.data.tables.table.csv_table",
    },
    "augment": {
        *("trainer.data.augment.chain.Chain", "trainer.data.augment.colour.ColourJitter"),
        *("trainer.data.augment.erasing.RandomErasing", "trainer.data.augment.geometry.FlipCrop"),
        *("trainer.data.augment.geometry.RandomAffine", "trainer.data.augment.geometry.RandomResizedCrop"),
    },
}
STORED_TORCH = {
    "model": "torch.nn",
    "loss": "torch.nn",
    "optim": "torch.optim",
    "schedule": "torch.optim.lr_scheduler",
}
BUILDERS = "torchvision.models"
FETCHING = ("weights_backbone", "pretrained", "fetch")  # arguments by which a builder of models downloads
SCHEDULE_LENGTHS = ("T_max", "total_steps")
REQUIRED = ("model", "data", "optim")  # parts that nothing stands in for


@dataclass(frozen=True)
class PlugPoint:
    """What may stand at a plug point: a subclass of `base`, or a function annotated to return `result`."""

    base: type
    words: str
    result: type | None = None
    given: tuple[str, ...] = ()  # arguments that this program passes


PLUG_POINTS = {
    "model": PlugPoint(
        nn.Module,
        "a torch.nn.Module",
        nn.Module,
        ("in_channels", "image_size", "in_features", "num_outputs"),
    ),
    "data": PlugPoint(
        Dataset, "a torch.utils.data.Dataset", Source, ("root", "split", "size", "resize", "progress", "schema")
    ),
    "loss": PlugPoint(nn.Module, "a loss from torch.nn"),
    "optim": PlugPoint(Optimizer, "a torch.optim.Optimizer", given=("params",)),
    "schedule": PlugPoint(
        LRScheduler,
        "a scheduler from torch.optim.lr_scheduler",
        given=("optimizer", "max_lr", "mode", "T_max", "total_steps"),
    ),
    "augment": PlugPoint(Augmentation, "a trainer.data.augment.base.Augmentation", given=("mean", "std")),
}


def resolve(target: str, kind_name: str, *, trusted: bool = True) -> Callable[..., Any]:
    """The class or function that `_target_` names, if it is of the kind.

    Args:
        trusted: False for configuration read back from a file, which may name only what is listed above.

    Raises:
        UserError: it is not there, or not of the kind, or not to be trusted.
    """
    kind, key = PLUG_POINTS[kind_name], f"{kind_name}._target_"
    if not isinstance(target, str) or not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", target):
        name = str(target).strip(".") if str(target).strip(".").isidentifier() else "Name"
        raise UserError(Problem(key, f"expected module.name, such as mymodule.{name}", given=str(target)))
    module_name, _, name = target.rpartition(".")
    ours = target in STORED_OURS.get(kind_name, ())
    builder = kind_name == "model" and module_name == BUILDERS
    if not trusted and not (ours or builder or module_name == STORED_TORCH.get(kind_name)):
        raise _untrusted(key, target)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise
        reason = f"there is no module {error.name}, also not in the current folder"
        raise UserError(Problem(key, reason, given=target)) from error
    found = getattr(module, name, None)
    if not trusted and not _is_vouched_for(found, name, module_name):
        raise _untrusted(key, target)
    if found is None:
        advice = did_you_mean(name, vars(module), module_name + ".")
        raise UserError(Problem(key, f"{module_name} has no {name}", given=target, advice=advice))
    if not _is_of_kind(found, kind):
        raise UserError(Problem(key, f"it is not {kind.words}", given=target))
    return found


def _untrusted(key: str, target: str) -> UserError:
    return UserError(Problem(key, "a stored configuration names code of its own", given=target, advice=TRUST))


def _is_vouched_for(found: Any, name: str, module_name: str) -> bool:
    """Whether this may stand in a stored configuration, of which `resolve` has judged the module."""
    if module_name == BUILDERS:
        return inspect.isfunction(found) and name in torchvision.models.list_models(torchvision.models)
    if module_name.startswith("torch."):
        return found is None or (inspect.isclass(found) and found.__module__.startswith("torch."))
    return True  # `resolve` has compared the whole name


def _is_of_kind(found: Any, kind: PlugPoint) -> bool:
    if inspect.isclass(found):
        return issubclass(found, kind.base)
    if kind.result is None or not inspect.isfunction(found):
        return False
    try:
        returned = typing.get_type_hints(found).get("return")
    except NameError:
        return False
    return inspect.isclass(returned) and issubclass(returned, kind.result)


def check(config: Config, parts: Iterable[str], *, trusted: bool = True) -> list[Problem]:
    """What is wrong with the targets of these parts and their arguments, before anything is built."""
    problems: list[Problem] = []
    for name in parts:
        part = getattr(config, name)
        if part.target is None and name in REQUIRED:
            problems.append(Problem(f"{name}._target_", f"a value is needed, {PLUG_POINTS[name].words}"))
            continue
        if part.target is None:
            reason = f"no such key: {name} has no _target_ that takes it"
            problems += [Problem(f"{name}.{key}", reason) for key in part.arguments]
            continue
        try:
            target = resolve(part.target, name, trusted=trusted)
            problems += _check_arguments(name, part, target)
            if not trusted:
                problems += [
                    Problem(f"{name}.{key}", "a stored configuration asks for a download", advice=TRUST)
                    for key in FETCHING
                    if part.arguments.get(key)
                ]
        except UserError as error:
            problems += error.problems
    if not problems and "optim" in parts and config.optim.target:
        problems += _try_optimizer(config.optim)
    return problems


def _try_optimizer(part: ComponentConfig) -> list[Problem]:
    try:
        trial = call("optim", part, [nn.Parameter(torch.zeros(1))])
    except UserError as error:
        return error.problems
    closure = inspect.signature(type(trial).step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        reason = "it evaluates the loss several times a step, which this loop does not do"
        return [Problem("optim._target_", reason, given=part.target)]
    return []


def _check_arguments(name: str, part: ComponentConfig, target: Callable[..., Any]) -> list[Problem]:
    parameters = inspect.signature(target).parameters
    given = PLUG_POINTS[name].given
    problems: list[Problem] = []
    names = [p.name for p in parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    open_ended = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    for key, value in part.arguments.items():
        if key not in names and not open_ended:
            own = [n for n in names if n not in given] or names
            advice = did_you_mean(key, own, f"{name}.") or f"It takes {', '.join(own) or 'none'}."
            problems.append(Problem(f"{name}.{key}", f"{part.target} has no such argument", advice=advice))
        elif key in parameters and isinstance(value, (str, bool)) and _is_number(parameters[key].default):
            problems.append(Problem(f"{name}.{key}", "expected a number", given=show(value)))
    required = [
        p.name
        for p in parameters.values()
        if p.default is p.empty
        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        and p.name not in part.arguments
        and p.name not in given
    ]
    return problems + [
        Problem(f"{name}.{key}", f"{part.target} needs it", command=f"{name}.{key}=...") for key in required
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def call(name: str, part: ComponentConfig, *positional: Any, **given: Any) -> Any:
    """Constructs a part; what its constructor refuses becomes a sentence."""
    assert part.target is not None
    target = resolve(part.target, name)
    parameters = inspect.signature(target).parameters
    passed = {k: v for k, v in given.items() if k in parameters and part.arguments.get(k) is None}
    try:
        return target(*positional, **{**part.arguments, **passed})
    except (UserError, NotImplementedError):
        raise
    except (ValueError, TypeError, RuntimeError, AssertionError) as error:  # torchvision asserts sizes
        typed = " ".join(f"{name}.{k}={show(v)}" for k, v in part.arguments.items())
        reason = f"{part.target} refuses {typed or 'its arguments'}: {str(error).rstrip('.')}"
        raise UserError(Problem(name, reason)) from error
