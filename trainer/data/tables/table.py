"""Tables: any delimited file becomes numbers and categories, or a sentence that names the cell that will not."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import torch

from trainer.data.samples import Arrays
from trainer.data.source import Source
from trainer.data.tables.columns import parse_column, parse_target
from trainer.data.tables.prepare import Column
from trainer.data.tables.rows import FILLED, BadRow, Encoder, is_missing, stream
from trainer.errors import Problem, UserError, did_you_mean, suggestions

Cells = list[list[str]]


@dataclass(frozen=True)
class TableSchema:
    """What a trained model knows of its table.

    Attributes:
        columns: with their categories.
        classes: none for a regression; None where they are as the file suggests.
    """

    columns: tuple[Column, ...]
    classes: tuple[str, ...] | None


def bundled_table(dataset: str, target: str, task: str | None = None, like: TableSchema | None = None) -> Source:
    """One of the tables in trainer/data/bundled."""
    path = files("trainer.data").joinpath(f"bundled/{dataset}.csv")
    return csv_table(str(path), target, task=task, like=like)


def csv_table(
    path: str,
    target: str,
    features: list[str] | None = None,
    drop: list[str] | None = None,
    task: str | None = None,
    separator: str | None = None,
    missing: str | None = None,
    like: TableSchema | None = None,
) -> Source:
    """A delimited text file with a header line, read with the standard library's csv module.

    Args:
        target: the column to predict.
        features: the columns to predict from; default: all others, less `drop`.
        task: `binary`, `multiclass` or `regression`; default: as the target's values suggest.
        separator: default: found in the header line.
        missing: `mean`, `median` (fitted later on the training part) or `drop` (the row); default: refused.
        like: columns, categories and classes are these, whatever the file suggests; features and drop mean nothing.

    Raises:
        UserError: what cannot be used, with file, row and column.
    """
    _check_choices(task, missing)
    header, rows, numbers = _numbered(path, separator)
    where = f"data.path={path}"
    if target not in header:
        advice = suggestions(target, header)
        raise UserError(Problem("data.target", f"{path} has no such column", given=target, advice=advice))
    if like is not None:
        return _as_known(like, header, rows, numbers, target, missing, task, path)
    for key, names in (("features", features), ("drop", drop)):
        for name in names or []:
            if name not in header:
                advice = did_you_mean(name, header)
                raise UserError(Problem(f"data.{key}", f"{path} has no column {name}", advice=advice))
    chosen = chosen_columns(header, target, features, drop)
    if not chosen:
        raise UserError(f"{where}: no column is left to predict from.")
    columns = {name: [row[header.index(name)].strip() for row in rows] for name in [*chosen, target]}
    kept = _keep(columns, target, missing, where)
    columns = {name: [cells[i] for i in kept] for name, cells in columns.items()}
    lines = [numbers[i] for i in kept]
    problems: list[Problem] = []
    parsed = [parse_column(name, columns[name], lines, path, problems) for name in chosen]
    if problems:
        raise UserError(*problems)
    inputs = torch.tensor([values for _, values in parsed], dtype=torch.float64).T.contiguous()
    task, classes, targets, note = parse_target(target, columns[target], lines, task, path)
    specs = tuple(column for column, _ in parsed)
    return Source({"train": Arrays(inputs, targets)}, classes, task=task, columns=specs, missing=missing, notes=[note])


def chosen_columns(header: list[str], target: str, features: list[str] | None, drop: list[str] | None) -> list[str]:
    """The columns to predict from."""
    return [n for n in (features or header) if n != target and n not in (drop or [])]


def _as_known(
    like: TableSchema,
    header: list[str],
    rows: Cells,
    numbers: list[int],
    target: str,
    missing: str | None,
    task: str | None,
    path: str,
) -> Source:
    """The table with the columns and classes of one that a model was trained on; `numbers` are the rows' lines."""
    names = [column.name for column in like.columns]
    encoder = Encoder(like.columns, fill=missing in FILLED)
    try:
        encoder.check(header)
    except BadRow as error:
        raise UserError(f"{path}: {error}.") from error
    columns = {name: [row[header.index(name)].strip() for row in rows] for name in [*names, target]}
    kept = _keep(columns, target, missing, f"data.path={path}")
    lines, inputs = [numbers[i] for i in kept], []
    for i, line in zip(kept, lines, strict=True):
        try:
            inputs.append(encoder.row({name: columns[name][i] for name in names}))
        except BadRow as error:
            raise UserError(f"{path}, row {line}, {error}.") from error
    cells = [columns[target][i] for i in kept]
    if like.classes:
        found, classes, targets = "classification", like.classes, _labels(target, cells, lines, like.classes, path)
    else:
        task = "regression" if like.classes is not None else task
        found, classes, targets, _ = parse_target(target, cells, lines, task, path)
    samples = Arrays(torch.tensor(inputs, dtype=torch.float64), targets)
    return Source({"train": samples}, classes, task=found, columns=like.columns, missing=missing)


def _labels(name: str, cells: list[str], lines: list[int], classes: tuple[str, ...], path: str) -> torch.Tensor:
    """[N], the place of each cell among the classes."""
    code = {text: i for i, text in enumerate(classes)}
    for cell, line in zip(cells, lines, strict=True):
        if cell not in code:
            known = ", ".join(classes[:20])
            raise UserError(f"{path}, row {line}, column {name}: {cell!r} is none of the model's classes: {known}.")
    return torch.tensor([code[cell] for cell in cells])


def _check_choices(task: str | None, missing: str | None) -> None:
    for key, value, choices in (
        ("task", task, ("binary", "multiclass", "regression")),
        ("missing", missing, ("mean", "median", "drop")),
    ):
        if value is not None and value not in choices:
            advice = did_you_mean(value, choices)
            raise UserError(Problem(f"data.{key}", f"expected {', '.join(choices)}", given=value, advice=advice))


def read(path: str, separator: str | None) -> tuple[list[str], Cells]:
    """Header and rows of a delimited file as text.

    Raises:
        UserError: no such file, no rows, duplicate columns, a row of another length.
    """
    header, rows, _ = _numbered(path, separator)
    return header, rows


def _numbered(path: str, separator: str | None) -> tuple[list[str], Cells, list[int]]:
    """As `read`, with the line of each row."""
    lines, rows = [], []
    for line, row in stream(path, separator, f"data.path={path}"):
        if isinstance(row, BadRow):
            raise UserError(f"{path}, row {line}: {row}.")
        lines.append(line)
        rows.append(row)
    if len(rows) < 2:
        raise UserError(f"data.path={path}: {len(rows)} lines; expected a header and a row for each sample.")
    return rows[0], rows[1:], lines[1:]


def _keep(columns: dict[str, list[str]], target: str, missing: str | None, where: str) -> list[int]:
    """Indices of the rows to use.

    Raises:
        UserError: missing values, counted by column, without a choice of what to do.
    """
    counts = {name: sum(map(is_missing, cells)) for name, cells in columns.items()}
    total = len(columns[target])
    if missing == "drop":
        kept = [i for i in range(total) if not any(is_missing(cells[i]) for cells in columns.values())]
        if not kept:
            raise UserError(f"{where}: every row has a missing value. Drop columns instead: data.drop=[...]")
        return kept
    if counts[target]:
        raise UserError(
            f"{where}: {counts[target]} rows have no {target}, the target. Leave them out: data.missing=drop"
        )
    counts = {name: count for name, count in counts.items() if count}
    if counts and missing is None:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UserError(f"{where}: missing values: {told}. Say what to do: data.missing=mean, median or drop.")
    return list(range(total))
