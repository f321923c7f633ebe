"""Checks of the cells of a table: missing values, unusable columns, and columns that leak the target."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import torch

from trainer.config.keys import DataConfig
from trainer.data.tables.columns import Cells, TargetColumn, parse_column, parse_target
from trainer.data.tables.division import division_columns
from trainer.data.tables.rows import is_missing
from trainer.data.tables.table import bundled_path
from trainer.data.tables.text_table import chosen_columns, column_names, read
from trainer.doctor.columns import (
    ParsedColumn,
    check_far_values,
    check_groups,
    check_nearly_constant,
    check_repeated,
    counts_rows,
)
from trainer.doctor.leaks import determines_class, determines_number
from trainer.errors import UserError, first_few, show
from trainer.report.findings import Report

TARGETS = ("trainer.data.tables.table.csv_table", "trainer.data.tables.table.bundled_table")
CHECKS = (
    *("missing values", "constant columns", "unusable columns", "identifiers", "groups", "repeated columns", "scale"),
    "leaks",
)
MANY_MISSING = 0.3  # of a column
FEW_LEFT = 0.5  # of the rows


def check_table(report: Report, config: DataConfig) -> frozenset[str]:
    """Report what is wrong with the configured table.

    Returns:
        The columns that only number the rows.
    """
    arguments = config.arguments
    bundled = arguments.get("dataset")
    report.checks += CHECKS
    try:
        table = read(bundled_path(bundled) if bundled else str(arguments.get("path")), arguments.get("separator"))
        used, dropped = (column_names(key, arguments.get(key)) for key in ("features", "drop"))
        dividing = division_columns(*map(arguments.get, ("group", "order", "split")))
    except UserError as error:
        report.add_problems(error.problems, "unusable columns")
        return frozenset()
    target = show(arguments.get("target"))
    if target not in table.header:
        return frozenset()  # reported when the data is loaded
    features = chosen_columns(table.header, target, used, dropped if used else [*dropped, *dividing.by_key.values()])
    columns = {name: table.cells(name) for name in features if name in table.header}
    report.fact("data", rows=len(table.rows), columns=len(features))
    _check_missing(report, columns, table.cells(target), arguments.get("missing"))
    parsed = _parse(report, columns)
    identifiers = frozenset(name for name, column in parsed.items() if counts_rows(column))
    for name in sorted(identifiers):
        report.add("identifiers", "warning", 1, f"column {name} numbers the rows", f"leave it out: data.drop=[{name}]")
    check_repeated(report, columns, parsed)
    if not dividing.by_key:
        check_groups(report, [table.cells(name) for name in table.header if name != target])
    _check_target(report, parsed, table.cells(target), arguments.get("task"))
    return identifiers


def _check_missing(report: Report, columns: dict[str, Cells], target: Cells, chosen: Any) -> None:
    rows, all_columns = len(target.texts), [*columns.values(), target]
    texts = {cells.name: Counter(filter(is_missing, cells.texts)) for cells in all_columns}
    counts = {name: counter.total() for name, counter in texts.items() if counter}
    if not counts:
        return
    listed = first_few((f"{name} {count:,}{_spellings(texts[name])}" for name, count in counts.items()), 10)
    mostly_missing = [name for name, count in counts.items() if count > MANY_MISSING * rows]
    refused = chosen is None or (target.name in counts and chosen != "drop")
    if refused:
        advice = "choose data.missing=mean, median or drop" if chosen is None else "leave rows out: data.missing=drop"
    elif mostly_missing:
        names = first_few(mostly_missing)
        advice = f"more than {MANY_MISSING:.0%} are missing in {names}: consider leaving them out: data.drop=[...]"
    else:
        advice = ""
    severity = "error" if refused else "warning" if mostly_missing else "note"
    report.add("missing values", severity, sum(counts.values()), f"values are missing: {listed}", advice)
    complete = sum(not any(map(is_missing, row)) for row in zip(*(c.texts for c in all_columns), strict=True))
    if chosen == "drop" and complete < FEW_LEFT * rows:
        message = f"{complete:,} of {rows:,} rows are left by data.missing=drop"
        advice = "data.missing=median keeps the others, or leave out columns with many missing values: data.drop=[...]"
        report.add("missing values", "warning", rows - complete, message, advice)


def _spellings(texts: Counter[str]) -> str:
    """List the texts that count as missing, because they may be meant as values."""
    spellings = [f"{text!r} {count:,}" for text, count in texts.most_common() if text]
    return f" ({first_few(spellings)})" if spellings else ""


def _parse(report: Report, columns: dict[str, Cells]) -> dict[str, ParsedColumn]:
    """Return the columns that can be used, and report what is wrong with any of them."""
    parsed = {}
    for name, cells in columns.items():
        if all(map(is_missing, cells.texts)):
            report.add("constant columns", "error", 1, f"column {name} is empty", f"leave it out: data.drop=[{name}]")
            continue
        try:
            column, values = parse_column(cells)
        except UserError as error:
            report.add_problems((replace(problem, source="") for problem in error.problems), "unusable columns")
            continue
        parsed[name] = ParsedColumn(torch.tensor(values, dtype=torch.float64), bool(column.categories))
        check_nearly_constant(report, cells, parsed[name])
        check_far_values(report, name, parsed[name])
    return parsed


def _check_target(report: Report, parsed: dict[str, ParsedColumn], cells: Cells, task: str | None) -> None:
    rows = [row for row, text in enumerate(cells.texts) if not is_missing(text)]
    if not rows:
        return  # reported with the missing values
    present = Cells(cells.name, [cells.texts[row] for row in rows], [cells.lines[row] for row in rows], cells.path)
    try:
        target = parse_target(present, task)
    except UserError as error:
        report.add_problems((replace(problem, source="") for problem in error.problems), "label range")
        return
    if target.task == "regression":
        if bool((target.values == target.values[0]).all()):
            message = f"column {cells.name}, the target, is {present.texts[0]} in every row"
            report.add("label range", "error", 1, message, "there is nothing to learn: choose another data.target")
            return
        check_far_values(report, cells.name, ParsedColumn(target.values, categories=False))
    _check_leaks(report, {name: column.values[rows] for name, column in parsed.items()}, target)


def _check_leaks(report: Report, columns: dict[str, torch.Tensor], target: TargetColumn) -> None:
    determines = determines_number if target.task == "regression" else determines_class
    for name, values in columns.items():
        present, where = ~values.isnan(), ""
        if not determines(values, target.values):
            if bool(present.all()) or not determines(values[present], target.values[present]):
                continue
            where = f" in the {int(present.sum()):,} rows that have a value"
        message = f"column {name} alone determines the target{where}"
        advice = f"if it is not known before the target is, leave it out: data.drop=[{name}]"
        report.add("leaks", "warning", 1, message, advice)
