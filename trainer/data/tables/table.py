"""Delimited text files as data sources."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import torch

from trainer.data.samples import Arrays, Samples
from trainer.data.source import Source
from trainer.data.tables.columns import parse_column
from trainer.data.tables.division import division_columns
from trainer.data.tables.prepare import Column
from trainer.data.tables.rows import FILLED, BadRow, Encoder
from trainer.data.tables.targets import Targets
from trainer.data.tables.text_table import TableOptions, TextTable, chosen_columns, column_names, read, without_missing
from trainer.errors import Problem, UserError, check_names, did_you_mean, suggestions

TASKS = ("binary", "multiclass", "multilabel", "regression")
MISSING = ("mean", "median", "drop")


@dataclass(frozen=True)
class TableSchema:
    """The columns and classes of a trained model: no classes for a regression, None to infer them from the file.

    `task` is the name of its task.
    """

    columns: tuple[Column, ...]
    classes: tuple[str, ...] | None
    task: str = ""


def bundled_table(dataset: str, target: str, task: str | None = None, schema: TableSchema | None = None) -> Source:
    """Load one of the tables in trainer/data/bundled; see `csv_table`."""
    return csv_table(bundled_path(dataset), target, task=task, schema=schema)


def bundled_path(dataset: str) -> str:
    """Return the file of a bundled table."""
    return str(files("trainer.data").joinpath(f"bundled/{dataset}.csv"))


def csv_table(
    path: str,
    target: str | list[str],
    features: list[str] | None = None,
    drop: list[str] | None = None,
    task: str | None = None,
    separator: str | None = None,
    missing: str | None = None,
    label_separator: str | None = None,
    group: str | None = None,
    order: str | None = None,
    split: str | None = None,
    categorical: list[str] | None = None,
    schema: TableSchema | None = None,
) -> Source:
    """Load a delimited text file with a header line.

    Columns that divide the rows are features only if `features` names them.

    Args:
        target: the column to predict; several are labels (0 or 1, true or false, yes or no) or numbers.
        features: the columns to predict from; default: all but the target.
        drop: columns to leave out.
        task: `binary`, `multiclass`, `multilabel` or `regression`; default: inferred from the target's values.
        separator: default: the most frequent one in the header line.
        missing: `mean` or `median` of the training samples fills missing numbers, `drop` leaves out rows with missing
            values; default: they are refused.
        label_separator: the target holds the labels of a row, any number of them, with this text between two.
        group: the column whose values name groups; rows of a group stay in one split and one fold.
        order: the column of numbers or dates by which the last rows are the validation and test splits.
        split: the column that says train, valid or test; rows without it are left out.
        categorical: columns whose values are categories, whatever they look like.
        schema: columns, categories and classes of a trained model; `features` and `drop` are then ignored, and so are
            columns that divide the rows if the file has none of these names.

    Raises:
        UserError: the file cannot be used; the message names file, row and column.
    """
    _check_choices(task, missing)
    targets = Targets.of(target, task, label_separator)
    options = TableOptions(targets, missing, division_columns(group, order, split))
    features, drop = column_names("features", features), column_names("drop", drop)
    table = read(path, separator)
    check_names(f"data.path={path}", "column", table.header, check="unusable columns")
    if schema is not None:
        return _load_with_schema(table, schema, options)
    chosen = column_names("categorical", categorical)
    table.check_columns({"categorical": chosen})
    return _load(table, _features(table, features, drop, options), options, frozenset(chosen))


def _check_choices(task: Any, missing: Any) -> None:
    for key, value, choices in (("task", task, TASKS), ("missing", missing, MISSING)):
        if value is not None and value not in choices:
            advice = did_you_mean(value, choices)
            raise UserError(Problem(f"data.{key}", f"expected {', '.join(choices)}", given=value, advice=advice))


def _features(table: TextTable, features: list[str], drop: list[str], options: TableOptions) -> list[str]:
    """Return the columns to predict from; refuse names of columns that the table has not."""
    _check_target(table, options)
    keys = options.dividing.by_key
    table.check_columns({"features": features, "drop": drop, **{key: [name] for key, name in keys.items()}})
    if clash := [key for key, name in keys.items() if name in options.targets.names]:
        reason = "it is the target, which is to be predicted"
        raise UserError(Problem(f"data.{clash[0]}", reason, given=keys[clash[0]]))
    return chosen_columns(table.header, options.targets.names, features, drop if features else [*drop, *keys.values()])


def _check_target(table: TextTable, options: TableOptions) -> None:
    if missing := [name for name in options.targets.names if name not in table.header]:
        advice, reason = suggestions(missing[0], table.header), f"{table.path} has no such column"
        raise UserError(Problem("data.target", reason, given=missing[0], advice=advice))


def _load(table: TextTable, names: list[str], options: TableOptions, categorical: frozenset[str]) -> Source:
    if not names:
        raise table.problem("no column is left to predict from")
    table = without_missing(table, names, options)
    columns, values, problems = [], [], []
    for name in names:
        try:
            column, numbers = parse_column(table.cells(name), categorical=name in categorical)
            columns.append(column)
            values.append(numbers)
        except UserError as error:
            problems += error.problems
    if problems and not columns:  # without any of them nothing is left
        problems = [replace(problem, advice="", command="") for problem in problems]
        problems.append(table.problem("no column is left to predict from").problems[0])
    if problems:
        raise UserError(*problems)
    inputs = torch.tensor(values, dtype=torch.float64).T.contiguous()
    parsed = options.targets.parse(options.target_cells(table))
    return Source(
        _samples(table, inputs, parsed.values),
        parsed.classes,
        parsed.task,
        tuple(columns),
        options.missing,
        [parsed.note],
        division=options.read_division(table),
        targets=parsed.targets,
    )


def _samples(table: TextTable, inputs: torch.Tensor, targets: torch.Tensor) -> dict[str, Samples]:
    """Return the rows float64 [N, K] as samples, with their places in the file if some were left out."""
    samples = Arrays(inputs, targets)
    samples.row_numbers = None if table.places is None else torch.tensor(table.places)
    return {"train": samples}


def _load_with_schema(table: TextTable, schema: TableSchema, options: TableOptions) -> Source:
    _check_target(table, options)
    options = replace(options, dividing=options.dividing.among(table.header))
    names = [column.name for column in schema.columns]
    encoder = Encoder(schema.columns, fill=options.missing in FILLED)
    try:
        encoder.check(table.header)
    except BadRow as error:
        raise UserError(Problem("", str(error), source=table.path)) from error
    table = without_missing(table, names, options)
    columns, inputs = [table.cells(name).texts for name in names], []
    for line, texts in zip(table.lines, zip(*columns, strict=True), strict=True):
        try:
            inputs.append(encoder.row(dict(zip(names, texts, strict=True))))
        except BadRow as error:
            raise UserError(Problem(f"row {line}", str(error), source=table.path)) from error
    parsed = options.targets.of_model(options.target_cells(table), schema.classes, schema.task)
    return Source(
        _samples(table, torch.tensor(inputs, dtype=torch.float64), parsed.values),
        parsed.classes,
        parsed.task,
        schema.columns,
        options.missing,
        division=options.read_division(table),
        targets=parsed.targets,
    )
