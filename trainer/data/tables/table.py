"""Delimited text files as data sources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import torch

from trainer.data.samples import Arrays
from trainer.data.source import Source
from trainer.data.tables.columns import Cells, parse_column, parse_target
from trainer.data.tables.prepare import Column
from trainer.data.tables.rows import FILLED, BadRow, Encoder, is_missing, stream
from trainer.errors import Problem, UserError, check_names, did_you_mean, show, suggestions

TASKS = ("binary", "multiclass", "regression")
MISSING = ("mean", "median", "drop")


@dataclass(frozen=True)
class TableSchema:
    """The columns and classes of a trained model: no classes for a regression, None to infer them from the file."""

    columns: tuple[Column, ...]
    classes: tuple[str, ...] | None


@dataclass
class TextTable:
    """The cells of a delimited file, and the line that each row begins in."""

    path: str
    header: list[str]
    rows: list[list[str]]
    lines: list[int]

    def cells(self, name: str) -> Cells:
        """Return the column of this name."""
        place = self.header.index(name)
        return Cells(name, [row[place].strip() for row in self.rows], self.lines, self.path)

    def select(self, kept: Sequence[int]) -> TextTable:
        """Return the table with these rows alone."""
        return TextTable(self.path, self.header, [self.rows[i] for i in kept], [self.lines[i] for i in kept])

    def problem(self, reason: str, *, advice: str = "", command: str = "", check: str = "") -> UserError:
        """Return the error of a mistake in this file."""
        return UserError(Problem("data.path", reason, given=self.path, advice=advice, command=command, check=check))


def bundled_table(dataset: str, target: str, task: str | None = None, schema: TableSchema | None = None) -> Source:
    """Load one of the tables in trainer/data/bundled; see `csv_table`."""
    return csv_table(bundled_path(dataset), target, task=task, schema=schema)


def bundled_path(dataset: str) -> str:
    """Return the file of a bundled table."""
    return str(files("trainer.data").joinpath(f"bundled/{dataset}.csv"))


def csv_table(
    path: str,
    target: str,
    features: list[str] | None = None,
    drop: list[str] | None = None,
    task: str | None = None,
    separator: str | None = None,
    missing: str | None = None,
    schema: TableSchema | None = None,
) -> Source:
    """Load a delimited text file with a header line.

    Args:
        target: the column to predict.
        features: the columns to predict from; default: all but the target.
        drop: columns to leave out.
        task: `binary`, `multiclass` or `regression`; default: inferred from the target's values.
        separator: default: the most frequent one in the header line.
        missing: `mean` or `median` of the training samples fills missing numbers, `drop` leaves out rows with missing
            values; default: they are refused.
        schema: columns, categories and classes of a trained model; `features` and `drop` are then ignored.

    Raises:
        UserError: the file cannot be used; the message names file, row and column.
    """
    for key, value, choices in (("task", task, TASKS), ("missing", missing, MISSING)):
        if value is not None and value not in choices:
            advice = did_you_mean(value, choices)
            raise UserError(Problem(f"data.{key}", f"expected {', '.join(choices)}", given=value, advice=advice))
    if isinstance(target, (dict, list, tuple)):
        raise UserError(Problem("data.target", "expected the name of one column", given=show(target)))
    target = show(target)
    features, drop = column_names("features", features), column_names("drop", drop)
    table = read(path, separator)
    check_names(f"data.path={path}", "column", table.header, check="unusable columns")
    if target not in table.header:
        advice = suggestions(target, table.header)
        raise UserError(Problem("data.target", f"{path} has no such column", given=target, advice=advice))
    if schema is not None:
        return _load_with_schema(table, schema, target, missing, task)
    for key, names in (("features", features), ("drop", drop)):
        for name in names:
            if name not in table.header:
                advice = did_you_mean(name, table.header)
                raise UserError(Problem(f"data.{key}", f"{path} has no column {name}", advice=advice))
    return _load(table, chosen_columns(table.header, target, features, drop), target, missing, task)


def column_names(key: str, names: Any) -> list[str]:
    """Return the names in a list of columns, `data.<key>`, as text: Hydra and YAML read the name 2024 as a number.

    Raises:
        UserError: it is not a list of names.
    """
    if names is None:
        return []
    if not isinstance(names, (list, tuple)) or any(isinstance(name, (dict, list, tuple)) for name in names):
        raise UserError(Problem(f"data.{key}", "expected a list of columns, such as [age,height]", given=show(names)))
    return [show(name) for name in names]


def _load(table: TextTable, names: list[str], target: str, missing: str | None, task: str | None) -> Source:
    if not names:
        raise table.problem("no column is left to predict from")
    table = _handle_missing(table, names, target, missing)
    columns, values, problems = [], [], []
    for name in names:
        try:
            column, numbers = parse_column(table.cells(name))
            columns.append(column)
            values.append(numbers)
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    inputs = torch.tensor(values, dtype=torch.float64).T.contiguous()
    parsed = parse_target(table.cells(target), task)
    samples = Arrays(inputs, parsed.values)
    return Source({"train": samples}, parsed.classes, parsed.task, tuple(columns), missing, [parsed.note])


def chosen_columns(header: list[str], target: str, features: list[str] | None, drop: list[str] | None) -> list[str]:
    """Return the columns to predict from."""
    return [name for name in (features or header) if name != target and name not in (drop or [])]


def _load_with_schema(
    table: TextTable, schema: TableSchema, target: str, missing: str | None, task: str | None
) -> Source:
    names = [column.name for column in schema.columns]
    encoder = Encoder(schema.columns, fill=missing in FILLED)
    try:
        encoder.check(table.header)
    except BadRow as error:
        raise UserError(Problem("", str(error), source=table.path)) from error
    table = _handle_missing(table, names, target, missing)
    columns, inputs = [table.cells(name).texts for name in names], []
    for line, texts in zip(table.lines, zip(*columns, strict=True), strict=True):
        try:
            inputs.append(encoder.row(dict(zip(names, texts, strict=True))))
        except BadRow as error:
            raise UserError(Problem(f"row {line}", str(error), source=table.path)) from error
    cells = table.cells(target)
    if schema.classes:
        kind, classes, targets = "classification", schema.classes, _labels(cells, schema.classes)
    else:
        parsed = parse_target(cells, "regression" if schema.classes is not None else task)
        kind, classes, targets = parsed.task, parsed.classes, parsed.values
    samples = Arrays(torch.tensor(inputs, dtype=torch.float64), targets)
    return Source({"train": samples}, classes, kind, schema.columns, missing)


def _labels(cells: Cells, classes: tuple[str, ...]) -> torch.Tensor:
    """Return the label int64 [N] of each cell."""
    code = {text: i for i, text in enumerate(classes)}
    for text, line in zip(cells.texts, cells.lines, strict=True):
        if text not in code:
            reason = f"{text!r} is none of the model's classes: {', '.join(classes[:20])}"
            raise UserError(Problem(f"row {line}, column {cells.name}", reason, source=cells.path))
    return torch.tensor([code[text] for text in cells.texts])


def read(path: str, separator: str | None) -> TextTable:
    """Read a delimited file.

    Raises:
        UserError: no such file, no rows, columns of the same name, or a row of another length.
    """
    lines, rows = [], []
    for line, row in stream(path, separator, f"data.path={path}"):
        if isinstance(row, BadRow):
            raise UserError(Problem(f"row {line}", str(row), source=path, check="unusable columns"))
        lines.append(line)
        rows.append(row)
    if len(rows) < 2:
        reason = f"{len(rows)} lines; expected a header and a row for each sample"
        raise UserError(Problem("data.path", reason, given=path, check="unusable columns"))
    return TextTable(path, rows[0], rows[1:], lines[1:])


def _handle_missing(table: TextTable, names: Iterable[str], target: str, missing: str | None) -> TextTable:
    """Return the table without the rows that `data.missing=drop` leaves out; refuse missing values that are left."""
    columns = {name: table.cells(name).texts for name in [*names, target]}
    check = "missing values"
    if missing == "drop":
        kept = [i for i, row in enumerate(zip(*columns.values(), strict=True)) if not any(map(is_missing, row))]
        if not kept:
            advice = "Drop columns instead"
            raise table.problem("every row has a missing value", advice=advice, command="data.drop=[...]", check=check)
        return table.select(kept)
    counts = {name: count for name, texts in columns.items() if (count := sum(map(is_missing, texts)))}
    if target in counts:
        reason = f"{counts[target]} rows have no {target}, the target"
        raise table.problem(reason, advice="Leave them out", command="data.missing=drop", check=check)
    if counts and missing is None:
        reason = f"missing values: {', '.join(f'{name} {count}' for name, count in counts.items())}"
        raise table.problem(reason, advice="Choose data.missing=mean, median or drop.", check=check)
    return table
