"""Rows of a table to model inputs: filled, scaled, one-hot; fitted on the training part only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Column:
    """A column of the raw table.

    Attributes:
        categories: the texts whose codes the raw values are; empty for a column of numbers.
        fill: what stands in for a missing value, in the raw unit.
        mean, std: of the training part, after filling.
        seen: the codes that the training part has; the others become all zeros.
    """

    name: str
    categories: tuple[str, ...] = ()
    fill: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    seen: tuple[int, ...] = ()


@dataclass(frozen=True)
class TablePrepare:
    """Raw rows [B, K] to inputs [B, F]: numbers scaled to mean 0, deviation 1; categories one-hot; in column order."""

    columns: tuple[Column, ...]
    size: None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.columns),)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (sum(len(c.seen) if c.categories else 1 for c in self.columns),)

    def __call__(self, raw: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        if raw.device.type == "mps":  # which has no float64
            return self(raw.cpu(), dtype).to("mps")
        fill, mean, std = _numbers(self, raw.device)
        filled = torch.where(raw.isnan(), fill, raw.double())
        scaled = (filled - mean) / std
        parts = [
            (raw[:, i, None] == torch.tensor(column.seen, device=raw.device))
            if column.categories
            else scaled[:, i, None]
            for i, column in enumerate(self.columns)
        ]
        return torch.cat([part.to(dtype) for part in parts], dim=1)

    def describe(self) -> str | None:
        encoded = sum(bool(column.categories) for column in self.columns)
        return f"{encoded} of {len(self.columns)} columns are categories, one-hot" if encoded else None

    def to_dict(self) -> dict[str, Any]:
        return {"columns": [asdict(column) for column in self.columns]}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> TablePrepare:
        return cls(tuple(
            Column(**{**c, "categories": tuple(c["categories"]), "seen": tuple(c["seen"])}) for c in stored["columns"]
        ))  # fmt: skip


@lru_cache(maxsize=16)
def _numbers(prepare: TablePrepare, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    rows = [[getattr(c, name) for c in prepare.columns] for name in ("fill", "mean", "std")]
    fill, mean, std = torch.tensor(rows, dtype=torch.float64, device=device)
    return fill, mean, std


def fit(columns: tuple[Column, ...], raw: Tensor, missing: str | None) -> TablePrepare:
    """Fits filling, scaling and categories on the training rows [N, K] (float64, NaN where missing).

    Args:
        missing: `mean` or `median` fills numbers; a missing category is all zeros.
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
        fitted.append(Column(column.name, fill=fill, mean=float(filled.mean()), std=std or 1.0))
    return TablePrepare(tuple(fitted))
