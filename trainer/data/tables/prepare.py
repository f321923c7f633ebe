"""Preprocessing of table rows: imputation, scaling and one-hot encoding, fitted on the training samples only.

Shape letters: N rows, B rows of a batch, K columns, F features.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from trainer.device import traits
from trainer.errors import Problem, UserError, first_few

KINDS = ("number", "date", "boolean")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        categories: texts, whose positions are the raw values; empty for a column of numbers.
        kind: `number`, `date` (days since 1970-01-01) or `boolean` (0 and 1), as which cells without categories are
            read.
        fill: replaces missing values, in the raw unit.
        mean, std: of the training samples, after filling.
        seen: codes of the categories that training samples have; the others are encoded as all zeros.
    """

    name: str
    categories: tuple[str, ...] = ()
    fill: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    seen: tuple[int, ...] = ()
    kind: str = "number"


@dataclass(frozen=True)
class TablePrepare:
    """Preprocessing of raw rows [B, K] to inputs [B, F], in column order.

    Numbers are scaled to mean 0 and standard deviation 1, categories are one-hot.
    """

    columns: tuple[Column, ...]
    size: None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a raw row, (K,)."""
        return (len(self.columns),)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of a model input, (F,)."""
        return (sum(len(c.seen) if c.categories else 1 for c in self.columns),)

    def __call__(self, raw: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Prepare raw rows [B, K], NaN where missing: [B, F] of `dtype`, on the same device."""
        if not traits(raw.device).float64:
            return self(raw.cpu(), dtype).to(raw.device)
        fill, mean, std = _numbers(self, raw.device)
        filled = torch.where(raw.isnan(), fill, raw.double())
        scaled = (filled - mean) / std
        if not any(column.categories for column in self.columns):
            return scaled.to(dtype)
        encoded = [
            (raw[:, i, None] == torch.tensor(column.seen, device=raw.device))
            if column.categories
            else scaled[:, i, None]
            for i, column in enumerate(self.columns)
        ]
        return torch.cat([features.to(dtype) for features in encoded], dim=1)

    def describe(self) -> str | None:
        """Describe columns that are not numbers, for the header; None if all are."""
        count = sum(bool(column.categories) for column in self.columns)
        dates = [column.name for column in self.columns if column.kind == "date"]
        notes = [f"{count} of {len(self.columns)} columns are categories, one-hot"] if count else []
        notes += [f"days since 1970-01-01: {first_few(dates)}"] if dates else []
        return "; ".join(notes) or None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for a checkpoint."""
        return {"columns": [asdict(column) for column in self.columns]}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> TablePrepare:
        """Return the object that `to_dict` was called on."""
        return cls(tuple(
            Column(**{**c, "categories": tuple(c["categories"]), "seen": tuple(c["seen"])}) for c in stored["columns"]
        ))  # fmt: skip


@lru_cache(maxsize=16)
def _numbers(prepare: TablePrepare, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    rows = [[getattr(c, name) for c in prepare.columns] for name in ("fill", "mean", "std")]
    fill, mean, std = torch.tensor(rows, dtype=torch.float64, device=device)
    return fill, mean, std


def fit(columns: tuple[Column, ...], raw: Tensor, missing: str | None) -> TablePrepare:
    """Fit imputation, scaling and categories to the training rows float64 [N, K], NaN where missing.

    Missing numbers become the `mean` or `median`, as `missing` says; missing categories are encoded as all zeros.

    Raises:
        UserError: the variance of a column is not a finite number.
    """
    fitted = []
    for column, values in zip(columns, raw.T, strict=True):
        present = values[~values.isnan()]
        if column.categories:
            fitted.append(Column(column.name, column.categories, seen=tuple(present.unique().long().tolist())))
            continue
        fill = float(present.quantile(0.5) if missing == "median" else present.mean()) if len(present) else 0.0
        filled = torch.where(values.isnan(), fill, values)
        std = float(filled.std(correction=0))
        if not math.isfinite(std):
            reason = f"column {column.name} holds {filled.abs().max():g}, and numbers of this size cannot be scaled"
            raise UserError(Problem("data", reason, command=f"data.drop=[{column.name}]", check="scale"))
        fitted.append(replace(column, fill=fill, mean=float(filled.mean()), std=std or 1.0))
    return TablePrepare(tuple(fitted))
