"""metrics.csv: a row per validation. One dataclass, one reader and one writer; does not import torch."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from trainer.errors import Problem, UserError
from trainer.files import read_text
from trainer.records.contents import exists
from trainer.records.schema import LARGEST_NUMBER, SchemaError, convert

FILE = "metrics.csv"
LARGEST_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class MetricsRow:
    """One validation. `row["valid_loss"]` returns the value of a column.

    Attributes:
        epoch, step: finished epochs and optimizer steps.
        lr: learning rate of the last step.
        metrics: by column, such as `train_loss` and `valid_loss`; None where the samples do not define one, and for
            training before the first step.
        seconds: wall-clock time of training and validation since the previous row.
        samples_per_second: training samples per second, including the time of validation.
    """

    epoch: int
    step: int
    lr: float
    metrics: dict[str, float | None]
    seconds: float
    samples_per_second: float

    @property
    def moment(self) -> tuple[int, int]:
        """Finished epochs and steps."""
        return self.epoch, self.step

    def __getitem__(self, column: str) -> float | None:
        if column in self.metrics:
            return self.metrics[column]
        if column not in OTHERS:
            raise KeyError(column)
        return getattr(self, column)

    @property
    def valid_loss(self) -> float:
        """The loss of the validation, which is finite in every row."""
        loss = self.metrics["valid_loss"]
        assert loss is not None
        return loss

    def get(self, column: str) -> float | None:
        """Return the value of a column; None if the row does not have it."""
        return self[column] if column in self.metrics or column in OTHERS else None

    def split(self, name: str) -> dict[str, float | None]:
        """Return the metrics of one split, `train` or `valid`, without its name as a prefix."""
        prefix = f"{name}_"
        return {key[len(prefix) :]: value for key, value in self.metrics.items() if key.startswith(prefix)}

    def to_dict(self) -> dict[str, float | None]:
        """Return the values by column, in the order of the columns."""
        row: dict[str, float | None] = {name: getattr(self, name) for name in BEFORE}
        return row | self.metrics | {name: getattr(self, name) for name in AFTER}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MetricsRow:
        """Return the row for the values that `to_dict` returned.

        Raises:
            SchemaError: a value is missing or of another type.
        """
        others = {name: convert(values.get(name), kind, name) for name, kind in OTHERS.items()}
        metrics = {name: convert(value, float | None, name) for name, value in values.items() if name not in OTHERS}
        return cls(metrics=metrics, **others)


# The columns around the metrics, and their types.
BEFORE = ("epoch", "step", "lr")
AFTER = ("seconds", "samples_per_second")
OTHERS: dict[str, type] = {"epoch": int, "step": int, "lr": float, "seconds": float, "samples_per_second": float}
assert {f.name for f in fields(MetricsRow)} == {*OTHERS, "metrics"}


def columns(metrics: Sequence[str]) -> list[str]:
    """Return the header of a metrics.csv with these metrics' columns."""
    return [*BEFORE, *metrics, *AFTER]


def moment(epoch: int, step: int, steps_per_epoch: int | None) -> str:
    """Return `epoch 3` for the end of an epoch, `step 200` for a moment inside one.

    Without `steps_per_epoch`, both numbers are named unless no epoch was finished.
    """
    if steps_per_epoch is None and epoch:
        return f"epoch {epoch}, step {step}"
    return f"epoch {epoch}" if epoch * (steps_per_epoch or 0) == step else f"step {step}"


def x_axis(moments: Iterable[tuple[int, int]], steps_per_epoch: int | None = None) -> str:
    """Return the x axis of curves: `epoch` if all moments (epoch, step) are at the end of an epoch, else `step`.

    If `steps_per_epoch` is unknown, that of the first moment after the start of training counts for all.
    """
    later = [(epoch, step) for epoch, step in moments if step]
    if later and steps_per_epoch is None:
        epoch, step = later[0]
        steps_per_epoch = step // epoch if epoch else 0
    return "epoch" if all(epoch * (steps_per_epoch or 0) == step for epoch, step in later) else "step"


def points(rows: Iterable[MetricsRow], column: str, across: str = "epoch") -> list[tuple[float, float]]:
    """Return (x, value) of the rows that have a value in a column; `across` is the column of x, `epoch` or `step`."""
    return [(getattr(row, across), value) for row in rows if (value := row.get(column)) is not None]


def read_metrics(path: Path) -> list[MetricsRow]:
    """Return the rows of a metrics.csv; an incomplete last line is left out.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file cannot be read, or has unexpected content.
    """
    if not exists(path):
        raise FileNotFoundError(path)
    text = read_text(path, LARGEST_BYTES)
    reader = csv.reader(io.StringIO(text[: text.rfind("\n") + 1]), strict=True)
    try:
        header = next(reader, [])
        _check_header(header)
        return [_row(header, cells) for cells in reader]
    except (ValueError, csv.Error) as error:
        raise UserError(Problem(str(path), f"not readable ({error})")) from error


def _check_header(header: list[str]) -> None:
    metrics = [name for name in header if name not in OTHERS]
    if header != columns(metrics) or not all(name.startswith(("train_", "valid_")) for name in metrics):
        raise SchemaError(f"its columns are not those of a {FILE}")


def _row(header: list[str], cells: list[str]) -> MetricsRow:
    if len(cells) != len(header):
        raise SchemaError(f"a row of {len(cells)} cells under {len(header)} columns")
    texts = dict(zip(header, cells, strict=True))
    others = {name: convert(kind(texts.pop(name)), kind, name) for name, kind in OTHERS.items()}
    return MetricsRow(metrics={name: _number(cell) for name, cell in texts.items()}, **others)


def _number(cell: str) -> float | None:
    """Return the number in a cell; None if it is empty, or not finite."""
    value = float(cell) if cell else math.nan
    return value if abs(value) < LARGEST_NUMBER else None
