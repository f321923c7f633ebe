"""Arrays of targets: integers, texts and booleans are classes, floats a regression, rows of several labels or numbers.

Shape letters: N samples, C classes, K labels or numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.data.arrays.stored import NamedArray, type_of
from trainer.data.labels import check_count
from trainer.data.tables.columns import MAX_NUMBER_CLASSES
from trainer.data.tables.table import TableSchema
from trainer.errors import Problem, UserError, did_you_mean, first_few, show

TASKS = ("binary", "multiclass", "multilabel", "regression")
CHECK = "label range"


@dataclass(frozen=True)
class Targets:
    """The targets of a data set.

    Attributes:
        task: `classification`, `multilabel` or `regression`.
        classes: names in label order, also of labels; empty for a regression.
        values: by split: classes int64 [N], numbers float64 [N] or [N, K], or labels int64 [N, K].
        note: a sentence for the header on how the task was determined.
        targets: the names of several numbers; empty for one.
    """

    task: str
    classes: tuple[str, ...]
    values: dict[str, Tensor]
    note: str
    targets: tuple[str, ...] = ()


def read_targets(
    arrays: Mapping[str, NamedArray], task: str | None, names: list[Any] | None, schema: TableSchema | None = None
) -> Targets:
    """Return the targets of each split.

    Args:
        arrays: [N], [N, 1], one-hot [N, C], or labels or numbers [N, K], by split.
        task: `binary`, `multiclass`, `multilabel` or `regression`; None infers it from the type.
        names: of the classes, in the order of the labels.
        schema: the classes of a trained model, in its order, and its task.

    Raises:
        UserError: they are of another shape or type, or do not fit the task.
    """
    if task is not None and task not in TASKS:
        advice = did_you_mean(task, TASKS)
        raise UserError(Problem("data.task", f"expected {', '.join(TASKS)}", given=show(task), advice=advice))
    trained = None if schema is None else schema.classes
    if schema is not None and trained is not None:
        task = schema.task if schema.task == "multilabel" else "multiclass" if trained else "regression"
    rows = {split: array.read() for split, array in arrays.items()}
    if task == "multilabel" or _are_several_numbers(rows, task):
        return _several(arrays["train"].name, rows, trained or names, labels=task == "multilabel")
    values = {split: _flat(arrays[split].name, array) for split, array in rows.items()}
    name, kind = arrays["train"].name, values["train"].dtype.kind
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
        reason = f"{name} has rows with several ones or none; expected one class for each"
        advice = "If they are labels, use data.task=multilabel."
        raise UserError(Problem("data.y", reason, advice=advice, check=CHECK))
    if array.ndim != 1:
        reason = f"{name} is {type_of(array.dtype)} {list(array.shape)}; expected one target for each sample"
        raise UserError(Problem("data.y", reason, check=CHECK))
    if array.dtype.kind == "S":
        try:
            return np.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(Problem("data.y", f"{name} is not UTF-8 text ({error.reason})", check=CHECK)) from error
    return array


def _are_several_numbers(rows: Mapping[str, np.ndarray], task: str | None) -> bool:
    """Return whether the targets are rows of numbers for a regression; those of 0 and 1 only if `task` says so."""
    if any(array.ndim != 2 or array.shape[1] < 2 for array in rows.values()):
        return False
    if task is not None:
        return task == "regression"
    train = rows["train"]
    return train.dtype.kind == "f" and not bool(((train == 0) | (train == 1)).all())


def _several(name: str, rows: Mapping[str, np.ndarray], names: Sequence[Any] | None, *, labels: bool) -> Targets:
    """Return labels, or several numbers."""
    tables = {split: array[:, None] if array.ndim == 1 else array for split, array in rows.items()}
    shapes = {array.shape[1:] for array in tables.values()}
    if len(shapes) > 1 or tables["train"].ndim != 2:
        reason = f"targets of the splits are {', '.join(str(list(array.shape)) for array in rows.values())}"
        raise UserError(Problem("data.y", f"{reason}; expected a row of equal length for each sample", check=CHECK))
    count = tables["train"].shape[1]
    if names is not None and (not isinstance(names, (list, tuple)) or len(set(map(show, names))) != count):
        raise UserError(Problem("data.classes", f"expected {count} different names", given=show(names), check=CHECK))
    shown = tuple(map(show, names)) if names else tuple(str(k) if labels else f"y{k}" for k in range(count))
    note = f"predicts {name}: {count} {'labels' if labels else 'numbers'}"
    if not labels:
        numbers = {split: _numbers(name, array) for split, array in tables.items()}
        return Targets("regression", (), numbers, f"{note} (data.task overrides it)", shown)
    for array in tables.values():
        if array.dtype.kind not in "biuf" or not bool(((array == 0) | (array == 1)).all()):
            raise UserError(Problem("data.y", f"{name} holds more than the 0 and 1 of labels", check=CHECK))
    values = {split: torch.from_numpy(array.astype(np.int64)) for split, array in tables.items()}
    return Targets("multilabel", shown, values, note)


def _numbers(name: str, values: np.ndarray) -> Tensor:
    if values.dtype.kind not in "biuf":
        reason = f"{name} holds texts, such as {str(values.flat[0])!r}; a regression predicts numbers"
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
