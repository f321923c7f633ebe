"""`data=arrays`: images, rows or sequences with targets, from files of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.data.arrays.containers import arrays_in
from trainer.data.arrays.inputs import LAYOUTS, Pair, convert, layout_of
from trainer.data.arrays.names import pairs
from trainer.data.arrays.stored import NamedArray, StoredArray, shape_of
from trainer.data.arrays.targets import read_targets
from trainer.data.source import Source
from trainer.data.tables.prepare import Column
from trainer.data.tables.rows import FILLED
from trainer.data.tables.table import TableSchema
from trainer.errors import Problem, UserError, did_you_mean, show


@dataclass(frozen=True)
class ArrayOptions:
    """How arrays are read; see `array_file`."""

    task: str | None = None
    layout: str | None = None
    classes: list[Any] | None = None
    missing: str | None = None
    schema: TableSchema | None = None


def array_file(
    path: str | None = None,
    x: str | None = None,
    y: str | None = None,
    task: str | None = None,
    layout: str | None = None,
    classes: list[Any] | None = None,
    missing: str | None = None,
    schema: TableSchema | None = None,
) -> Source:
    """Load arrays from a .npz or .safetensors file, from .npy files in a folder, or from two .npy files.

    Arrays of a split have its name in theirs: `x_train`, `test_images`. A file that would take more than a quarter of
    the free memory is mapped, not read. Pickles are refused.

    Args:
        path: the file or folder; without it, `x` and `y` are the paths of two .npy files.
        x: name of the inputs, with or without that of the split.
        y: name of the targets.
        task: `binary`, `multiclass`, `multilabel` or `regression`; default: regression if the targets are floats.
        layout: axes of the inputs: `NF`, `NTF`, `NHW`, `NHWC` or `NCHW`; default: by their shape.
        classes: names of the classes, in the order of the labels.
        missing: `mean` or `median` of the training samples fills missing numbers of rows; default: they are refused.
        schema: columns and classes of a trained model.

    Raises:
        UserError: a file cannot be read, or the arrays cannot be used.
    """
    x, y = (name if name is None else show(name) for name in (x, y))
    options = ArrayOptions(task, layout, classes, missing, schema)
    if path is not None:
        return from_pairs(pairs(arrays_in(show(path)), show(path), x, y), options)
    if x is None or y is None:
        reason = "expected data.path=FILE, or the two files data.x=FILE.npy and data.y=FILE.npy"
        raise UserError(Problem("data.path", reason))
    return from_pairs(pairs({"x": _single(x, "data.x"), "y": _single(y, "data.y")}, x, None, None), options)


def _single(path: str, key: str) -> StoredArray:
    """Return the array of a .npy file."""
    arrays = list(arrays_in(path, key).values())
    if len(arrays) != 1:
        raise UserError(
            Problem(key, "it holds more than one array", given=path, advice="Name it", command=f"data.path={path}")
        )
    return arrays[0]


def from_pairs(arrays: Mapping[str, Pair], options: ArrayOptions) -> Source:
    """Return the source of inputs and targets by split.

    Raises:
        UserError: they cannot be used.
    """
    if options.missing not in (None, *FILLED):
        advice = did_you_mean(show(options.missing), FILLED)
        raise UserError(
            Problem("data.missing", f"expected {' or '.join(FILLED)}", given=show(options.missing), advice=advice)
        )
    schema = options.schema
    inputs: dict[str, NamedArray] = {split: pair.inputs for split, pair in arrays.items()}
    targets: dict[str, NamedArray] = {split: pair.targets for split, pair in arrays.items()}
    first = inputs["train"]
    layout = layout_of(first.shape, first.dtype, first.name, options.layout)
    parsed = read_targets(targets, options.task, options.classes, schema)
    samples = convert(inputs, parsed.values, layout, options.missing)
    columns = _columns(first, schema) if layout == "NF" else ()
    advice = "" if layout in ("NF", "NCHW") else "; data.layout overrides it"
    notes = [f"{first.name} {shape_of(first)}: {LAYOUTS[layout]}{advice}", parsed.note]
    source = Source(samples, parsed.classes, parsed.task, columns, options.missing, notes, targets=parsed.targets)
    source.standardise = layout != "NTF"
    return source


def _columns(array: NamedArray, schema: TableSchema | None) -> tuple[Column, ...]:
    """Return columns x0, x1, ..., or those of a trained model."""
    count = array.shape[1]
    if schema is None:
        return tuple(Column(f"x{number}") for number in range(count))
    if len(schema.columns) != count or any(column.categories for column in schema.columns):
        reason = f"{array.name} has {count} columns; the model has {len(schema.columns)}"
        raise UserError(Problem("data.x", reason, check="shapes"))
    return schema.columns
