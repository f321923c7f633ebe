"""DataFrames as sources: read like the CSV file that they would be written to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from trainer.data.samples import Arrays, Samples
from trainer.data.source import Source
from trainer.data.tables.columns import Cells, parse_column
from trainer.data.tables.rows import is_missing
from trainer.data.tables.targets import Targets
from trainer.errors import Problem, UserError, check_names, did_you_mean, first_few, show

TASKS = ("binary", "multiclass", "multilabel", "regression")
MISSING = ("mean", "median", "drop")


def source_of_frames(splits: Mapping[str, Any]) -> Callable[..., Source]:
    """Return a function that returns the source of `(DataFrame, y)` by split; its arguments are keys of `data`."""

    def table(task: str | None = None, missing: str | None = None) -> Source:
        for key, value, choices in (("task", task, TASKS), ("missing", missing, MISSING)):
            if value is not None and value not in choices:
                advice = did_you_mean(show(value), choices)
                raise UserError(
                    Problem(f"data.{key}", f"expected {', '.join(choices)}", given=show(value), advice=advice)
                )
        return _read(splits, task, missing)

    return table


@dataclass
class _Texts:
    """The cells of all splits by column, one split after the other, and the row at which each split ends."""

    columns: dict[str, list[str]]
    targets: dict[str, list[str]]
    ends: dict[str, int] = field(default_factory=dict)

    def add(self, split: str, frame: Any, targets: Any) -> None:
        """Add the rows of a split.

        Raises:
            UserError: its columns or targets are others, or it has not as many targets as rows.
        """
        names = [str(name) for name in getattr(frame, "columns", ())]
        if differing := sorted(set(names) ^ set(self.columns)):
            reason = f"the columns of {split} are not those of train: {first_few(differing)} differ"
            raise UserError(Problem("data", reason, check="shapes"))
        if len(frame) != len(targets):
            reason = f"X of {split} has {len(frame):,} rows and y {len(targets):,}"
            raise UserError(Problem("data", reason, check="shapes"))
        for place, name in enumerate(names):
            self.columns[name] += _texts(frame.iloc[:, place])
        columns = _target_columns(targets)
        if list(columns) != list(self.targets):
            reason = f"the targets of {split} are {first_few(columns)} and those of train {first_few(self.targets)}"
            raise UserError(Problem("data", reason, check="shapes"))
        for name, column in columns.items():
            self.targets[name] += _texts(column)
        self.ends[split] = max(self.ends.values(), default=0) + len(frame)


def _target_columns(targets: Any) -> dict[str, Any]:
    """Return the columns of targets by name: of a DataFrame, a Series, or an array [N] or [N, K].

    Raises:
        UserError: they have another shape, or names are not different.
    """
    if hasattr(targets, "iloc") and hasattr(targets, "columns"):
        names = [str(name) for name in targets.columns]
        if not names or len(set(names)) < len(names):
            raise UserError(Problem("data", "expected targets in columns of different names"))
        return {name: targets.iloc[:, place] for place, name in enumerate(names)}
    array = np.asarray(targets)
    if array.ndim == 2 and array.shape[1] > 1:
        return {f"y{place}": array[:, place] for place in range(array.shape[1])}
    name = getattr(targets, "name", None)
    return {"y" if name is None else str(name): array.reshape(len(array), -1)[:, 0] if array.ndim == 2 else targets}


def _read(splits: Mapping[str, Any], task: str | None, missing: str | None) -> Source:
    train, targets = splits["train"]
    names = [str(name) for name in getattr(train, "columns", ())]
    if len(set(names)) < len(names) or not names:
        raise UserError(Problem("data", "expected a DataFrame with columns of different names"))
    check_names("data", "column", names, check="unusable columns")
    texts = _Texts({name: [] for name in names}, {name: [] for name in _target_columns(targets)})
    predicted = Targets.of(list(texts.targets), task, None)
    for split, (frame, targets) in splits.items():
        texts.add(split, frame, targets)
    kept = _kept(texts.columns, texts.targets, missing)
    columns, values, problems = [], [], []
    for name in names:
        try:
            parsed, numbers = parse_column(_cells(name, texts.columns[name], kept))
            columns.append(parsed)
            values.append(numbers)
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    answer = predicted.parse([_cells(name, column, kept) for name, column in texts.targets.items()])
    inputs = torch.tensor(values, dtype=torch.float64).T.contiguous()
    samples: dict[str, Samples] = {}
    begin = 0
    for split, end in texts.ends.items():
        places = [number for number, row in enumerate(kept) if begin <= row < end]
        if not places:
            raise UserError(Problem("data", f"the {split} split has no rows"))
        samples[split] = Arrays(inputs[places], answer.values[places])
        if missing == "drop":
            samples[split].row_numbers = torch.tensor([kept[place] - begin for place in places])
        begin = end
    source = Source(samples, answer.classes, answer.task, tuple(columns), missing, [answer.note])
    source.targets = answer.targets
    return source


def _cells(name: str, texts: list[str], kept: list[int]) -> Cells:
    return Cells(name, [texts[row] for row in kept], kept, "data")


def _texts(column: Any) -> list[str]:
    """Return the cells of a column as a CSV file would hold them; numbers keep all their digits."""
    values = np.asarray(column)
    if values.dtype.kind == "f":
        return ["" if np.isnan(value) else repr(value) for value in values.astype(np.float64).tolist()]
    return ["" if value is None or value != value else str(value).strip() for value in values.tolist()]


def _kept(columns: Mapping[str, list[str]], targets: Mapping[str, list[str]], missing: str | None) -> list[int]:
    """Return the rows that are used.

    Raises:
        UserError: there are missing values, and `data.missing` does not say what becomes of them.
    """
    if missing == "drop":
        cells = zip(*columns.values(), *targets.values(), strict=True)
        kept = [row for row, values in enumerate(cells) if not any(map(is_missing, values))]
        if not kept:
            raise UserError(Problem("data", "every row has a missing value", check="missing values"))
        return kept
    for name, number in _missing(targets).items():
        reason = f"{number} rows have no {name}, {'the target' if len(targets) == 1 else 'a target'}"
        raise UserError(
            Problem("data", reason, advice="Leave them out", command="data.missing=drop", check="missing values")
        )
    if missing is None and (counts := _missing(columns)):
        reason = f"missing values: {', '.join(f'{name} {number}' for name, number in counts.items())}"
        raise UserError(
            Problem("data", reason, advice="Choose data.missing=mean, median or drop.", check="missing values")
        )
    return list(range(len(next(iter(columns.values())))))


def _missing(columns: Mapping[str, list[str]]) -> dict[str, int]:
    return {name: number for name, texts in columns.items() if (number := sum(map(is_missing, texts)))}
