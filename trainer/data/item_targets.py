"""Targets of the items of a user's data set: classes, class probabilities, labels, or numbers.

Shape letters: N samples, C classes, K targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.errors import UserError

TASKS = ("classification", "multilabel", "regression")
MOST = 1e-3  # by which a sum of probabilities may differ from 1


@dataclass(frozen=True)
class ItemTargets:
    """The targets of a split.

    Attributes:
        task: `classification`, `multilabel` or `regression`.
        values: int64 [N] or 0 and 1 [N, K]; float64 [N] or [N, K] of a regression.
        probabilities: float32 [N, C] if they are class probabilities; `values` then holds the most probable class.
        count: number of classes, labels or numbers.
    """

    task: str
    values: Tensor
    probabilities: Tensor | None
    count: int


def read_targets(targets: Sequence[Any], task: str | None, error: Callable[[str], UserError]) -> ItemTargets:
    """Return the targets of all items.

    Rows of 0 and 1 with several ones or none are labels; rows of floats, with one outside 0 to 1, are numbers.

    Args:
        targets: a class (int), a number (float), or a row of numbers for each item.
        task: of the data set; None infers it.
        error: returns the error with this sentence.

    Raises:
        UserError: they are of different kinds or lengths, or do not fit the task.
    """
    kinds = {type(target) for target in targets}
    if kinds == {list}:
        return _rows(targets, task, error)
    if kinds not in ({int}, {float}, {bool}):
        words = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise error(f"targets are {words}; expected all int (classes), all float, or all rows of as many numbers")
    inferred = "regression" if kinds == {float} else "classification"
    if task == "multilabel" or (task == "classification" and inferred == "regression"):
        raise error(f"targets are {kinds.pop().__name__}, and the task is {task}")
    numbers = (task or inferred) == "regression"
    values_N = torch.tensor(targets, dtype=torch.float64 if numbers else torch.int64)
    return ItemTargets(task or inferred, values_N, None, 1 if numbers else int(values_N.max()) + 1)


def _rows(rows: Sequence[list[float]], task: str | None, error: Callable[[str], UserError]) -> ItemTargets:
    lengths = sorted(set(map(len, rows)))
    if len(lengths) > 1:
        raise error(f"targets have {lengths[0]} to {lengths[-1]} numbers; expected as many for each item")
    table_NK = torch.tensor(rows, dtype=torch.float64)
    if (task or _inferred(rows, table_NK)) == "regression":
        return ItemTargets("regression", table_NK, None, lengths[0])
    binary_N = ((table_NK == 0) | (table_NK == 1)).all(1)
    if (task or _inferred(rows, table_NK)) == "multilabel":
        if not bool(binary_N.all()):
            first = int((~binary_N).nonzero()[0])
            raise error(f"the target of item {first} is {rows[first]}; labels are 0 and 1")
        return ItemTargets("multilabel", table_NK.long(), None, lengths[0])
    wrong_N = (table_NK < 0).any(1) | ((table_NK.sum(1) - 1).abs() > MOST) | table_NK.isnan().any(1)
    if bool(wrong_N.any()):
        first = int(wrong_N.nonzero()[0])
        raise error(f"the target of item {first} is {rows[first]}; expected probabilities that sum to 1")
    return ItemTargets(
        "classification", table_NK.argmax(1), None if bool(binary_N.all()) else table_NK.float(), lengths[0]
    )


def _inferred(rows: Sequence[list[float]], table_NK: Tensor) -> str:
    """Return the task of rows; those between 0 and 1 are probabilities unless all are labels."""
    if bool(((table_NK == 0) | (table_NK == 1)).all()):
        return "classification" if bool((table_NK.sum(1) == 1).all()) else "multilabel"
    floats = all(isinstance(value, float) for value in rows[0])
    return "regression" if floats and bool(((table_NK < 0) | (table_NK > 1 + MOST)).any()) else "classification"
