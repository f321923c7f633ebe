"""Data of a Python program: arrays, tensors, DataFrames and data sets, as sources.

Shape letters: N samples, K columns of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from trainer.data.arrays.inputs import MemoryArray, Pair
from trainer.data.arrays.names import check_pairs
from trainer.data.arrays.source import ArrayOptions, from_pairs
from trainer.data.frames import source_of_frames
from trainer.data.map_dataset import from_dataset
from trainer.data.source import Source
from trainer.data.split import SPLITS
from trainer.data.tables.table import TableSchema
from trainer.errors import Problem, UserError, did_you_mean

EXPECTED = "expected (X, y), a torch Dataset, or a dict of these with the keys train, valid and test"


def is_data(value: Any) -> bool:
    """Return whether a value is data itself, not the name of an option or keys of the group `data`."""
    if isinstance(value, Mapping):
        return bool(value) and not any(isinstance(each, (str, int, float, type(None))) for each in value.values())
    return not isinstance(value, str)


def factory_of(data: Any) -> tuple[str, Callable[..., Source]]:
    """Return a name for messages and a function that returns the source of data; its arguments are keys of `data`.

    Args:
        data: `(X, y)`, of arrays, tensors, lists, or of a DataFrame and one or several columns; a torch Dataset; or a
            dict of these by split.

    Raises:
        UserError: it is something else.
    """
    splits = dict(data) if isinstance(data, Mapping) else {"train": data}
    if wrong := [name for name in splits if name not in SPLITS] or "train" not in splits:
        advice = did_you_mean(wrong[0], SPLITS) if isinstance(wrong, list) else ""
        reason = f"a dict with the keys {', '.join(map(str, splits))}; {EXPECTED}"
        raise UserError(Problem("data", reason, advice=advice))
    splits = {name: splits[name] for name in SPLITS if splits.get(name) is not None}
    if all(_is_pair(each) for each in splits.values()):
        if any(_is_frame(x) for x, _ in splits.values()):
            return "table", source_of_frames(splits)
        return "arrays", _source_of_arrays(splits)
    if all(map(_is_dataset, splits.values())):
        return name_of(type(splits["train"])), _source_of_datasets(splits)
    kinds = ", ".join(dict.fromkeys(type(each).__name__ for each in splits.values()))
    raise UserError(Problem("data", f"{kinds}; {EXPECTED}"))


def name_of(cls: type) -> str:
    """Return the full name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _is_pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2


def _is_frame(value: Any) -> bool:
    """Return whether a value is a DataFrame of pandas; only a program that has one has imported pandas."""
    return hasattr(value, "columns") and hasattr(value, "iloc")


def _is_dataset(value: Any) -> bool:
    """Return whether a value has items and a length, and is no array or list."""
    if isinstance(value, (list, tuple, np.ndarray, torch.Tensor)) or _is_frame(value):
        return False
    return hasattr(type(value), "__getitem__") and hasattr(type(value), "__len__")


def _source_of_arrays(splits: Mapping[str, Any]) -> Callable[..., Source]:
    def arrays(
        task: str | None = None,
        layout: str | None = None,
        classes: list[Any] | None = None,
        missing: str | None = None,
        schema: TableSchema | None = None,
    ) -> Source:
        pairs = {name: Pair(_array("X", x), _array("y", y)) for name, (x, y) in splits.items()}
        check_pairs(pairs)
        return from_pairs(pairs, ArrayOptions(task, layout, classes, missing, schema))

    return arrays


def _array(name: str, value: Any) -> MemoryArray:
    """Return an array, tensor or list as an array of numbers or texts.

    Raises:
        UserError: it is none.
    """
    key = f"data.{name.lower()}"
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if hasattr(value, "toarray"):
        reason = f"{name} is a sparse matrix"
        raise UserError(Problem(key, reason, advice=f"Pass {name}.toarray() if it fits in memory."))
    try:
        array = np.asarray(value)
        array = np.array(array.tolist()) if array.dtype == object or array.dtype.kind == "T" else array
    except (TypeError, ValueError, RuntimeError) as error:
        reason = f"{name} is a {type(value).__name__}, not an array: {' '.join(str(error).split())[:200]}"
        raise UserError(Problem(key, reason.rstrip("."))) from error
    if array.dtype.kind not in "biufU" and array.dtype.kind != "S":
        reason = f"{name} holds {array.dtype}; expected numbers, booleans or texts"
        raise UserError(Problem(key, reason))
    return MemoryArray(name, array)


def _source_of_datasets(splits: Mapping[str, Any]) -> Callable[..., Source]:
    name = name_of(type(splits["train"]))

    def datasets() -> Source:
        if list(splits) == ["train"]:
            return from_dataset(lambda: splits["train"], name)
        return from_dataset(lambda split: splits.get(split), name)

    return datasets
