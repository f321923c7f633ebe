"""Arrays of targets as classes or numbers: integers, texts and booleans are classes, floats a regression."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.data.arrays.stored import NamedArray, type_of
from trainer.data.labels import check_count
from trainer.data.tables.columns import MAX_NUMBER_CLASSES
from trainer.errors import Problem, UserError, did_you_mean, first_few, show

TASKS = ("binary", "multiclass", "regression")
CHECK = "label range"


@dataclass(frozen=True)
class Targets:
    """The targets of a data set.

    Attributes:
        task: `classification` or `regression`.
        classes: names in label order; empty for a regression.
        values: by split: classes int64 [N], or numbers float64 [N].
        note: a sentence for the header on how the task was determined.
    """

    task: str
    classes: tuple[str, ...]
    values: dict[str, Tensor]
    note: str


def read_targets(
    arrays: Mapping[str, NamedArray], task: str | None, names: list[Any] | None, trained: tuple[str, ...] | None = None
) -> Targets:
    """Return the targets of each split.

    Args:
        arrays: [N], [N, 1], or one-hot [N, C], by split.
        task: `binary`, `multiclass` or `regression`; None infers it from the type.
        names: of the classes, in the order of the labels.
        trained: the classes of a trained model, in its order; empty for a regression.

    Raises:
        UserError: they are of another shape or type, or do not fit the task.
    """
    if task is not None and task not in TASKS:
        advice = did_you_mean(task, TASKS)
        raise UserError(Problem("data.task", f"expected {', '.join(TASKS)}", given=show(task), advice=advice))
    values = {split: _flat(array.name, array.read()) for split, array in arrays.items()}
    name, kind = arrays["train"].name, values["train"].dtype.kind
    if trained is not None:
        task = "multiclass" if trained else "regression"
    if (task or ("regression" if kind == "f" else "multiclass")) == "regression":
        numbers = {split: _numbers(name, value) for split, value in values.items()}
        return Targets("regression", (), numbers, _note(name, "regression", task, values["train"]))
    distinct = np.unique(np.concatenate([np.unique(value) for value in values.values()]))
    _check_classes(name, distinct, values, task)
    classes = trained or _class_names(distinct, names)
    codes = _codes(name, distinct, classes, trained)
    labels = {split: torch.from_numpy(codes[np.searchsorted(distinct, value)]) for split, value in values.items()}
    chosen = "binary" if len(classes) == 2 else "multiclass"
    return Targets("classification", classes, labels, _note(name, chosen, task, distinct))


def _flat(name: str, array: np.ndarray) -> np.ndarray:
    """Return targets [N]; one-hot rows become the position of the one."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "biuf" and bool(((array == 0) | (array == 1)).all()):
        if bool((array.sum(1) == 1).all()):
            return array.argmax(1)
        raise UserError(
            Problem("data.y", f"{name} has rows with several ones or none; expected one class for each", check=CHECK)
        )
    if array.ndim != 1:
        reason = f"{name} is {type_of(array.dtype)} {list(array.shape)}; expected one target for each sample"
        raise UserError(Problem("data.y", reason, check=CHECK))
    if array.dtype.kind == "S":
        try:
            return np.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(Problem("data.y", f"{name} is not UTF-8 text ({error.reason})", check=CHECK)) from error
    return array


def _numbers(name: str, values: np.ndarray) -> Tensor:
    if values.dtype.kind not in "biuf":
        reason = f"{name} holds texts, such as {str(values[0])!r}; a regression predicts numbers"
        raise UserError(Problem("data.task", reason, given="regression", check=CHECK))
    numbers = values.astype(np.float64)
    if missing := int(np.isnan(numbers).sum()):
        raise UserError(Problem("data.y", f"{name} holds {missing:,} missing values (NaN)", check="missing values"))
    return torch.from_numpy(np.ascontiguousarray(numbers))


def _check_classes(name: str, distinct: np.ndarray, values: Mapping[str, np.ndarray], task: str | None) -> None:
    if distinct.dtype.kind == "f" and not all(math.isfinite(x) and x == int(x) for x in distinct):
        reason = f"{name} holds {distinct[-1]:g}, no whole number"
        raise UserError(Problem("data.task", reason, given=task, advice="Use data.task=regression.", check=CHECK))
    count = sum(map(len, values.values()))
    if len(distinct) > max(MAX_NUMBER_CLASSES, count // 2):
        reason = (
            f"{name} has {len(distinct):,} different values in {count:,} samples, as if each were a class of its own"
        )
        raise UserError(Problem("data.y", reason, advice="Use data.task=regression for numbers.", check=CHECK))
    check_count(len(distinct))
    if len(distinct) < 2:
        raise UserError(Problem("data.y", f"all samples are of one class, {_text(distinct[0])}", check=CHECK))
    if task == "binary" and len(distinct) != 2:
        reason = f"{name} has {len(distinct)} classes: {first_few(map(_text, distinct), 10)}"
        raise UserError(Problem("data.task", reason, given=task, check=CHECK))


def _class_names(distinct: np.ndarray, names: list[Any] | None) -> tuple[str, ...]:
    if names is None:
        return tuple(map(_text, distinct))
    if not isinstance(names, (list, tuple)) or len(names) != len(distinct) or len(set(map(show, names))) != len(names):
        reason = f"expected a different name for each of {len(distinct)} classes: {first_few(map(_text, distinct), 10)}"
        raise UserError(Problem("data.classes", reason, given=show(names), check=CHECK))
    return tuple(map(show, names))


def _codes(name: str, distinct: np.ndarray, classes: tuple[str, ...], trained: tuple[str, ...] | None) -> np.ndarray:
    """Return the label int64 of each distinct value."""
    if trained is None:
        return np.arange(len(distinct))
    codes = {text: code for code, text in enumerate(classes)}
    for value in distinct:
        if _text(value) not in codes:
            reason = f"{name} holds {_text(value)!r}, none of the model's classes: {first_few(classes, 20)}"
            raise UserError(Problem("data.y", reason, check=CHECK))
    return np.array([codes[_text(value)] for value in distinct])


def _text(value: Any) -> str:
    """Return the name of a class."""
    value = value.item()
    return show(int(value) if isinstance(value, float) else value)


def _note(name: str, chosen: str, configured: str | None, distinct: np.ndarray) -> str:
    reason = "as configured" if configured else f"of type {type_of(distinct.dtype)}; data.task overrides it"
    return f"predicts {name}: {chosen} ({reason})"
