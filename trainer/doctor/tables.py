"""Checks of the cells of a table: missing values, unusable columns, and columns that leak the target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from trainer.config.keys import DataConfig
from trainer.data.images import recognise
from trainer.data.tables.columns import Cells, parse_column
from trainer.data.tables.division import division_columns
from trainer.data.tables.rows import is_missing
from trainer.data.tables.table import bundled_path
from trainer.data.tables.targets import Targets
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
from trainer.errors import UserError, first_few
from trainer.report.findings import Report

TARGETS = ("trainer.data.tables.table.csv_table", "trainer.data.tables.table.bundled_table")
CHECKS = (
    *("missing values", "constant columns", "unusable columns", "identifiers", "groups", "repeated columns", "scale"),
    "leaks",
)
Determines = Callable[[torch.Tensor, torch.Tensor], bool]
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
        keys = ("features", "drop", "categorical")
        used, dropped, categorical = (column_names(key, arguments.get(key)) for key in keys)
        dividing = division_columns(*map(arguments.get, ("group", "order", "split")))
        targets = Targets.of(arguments.get("target"), arguments.get("task"), arguments.get("label_separator"))
    except UserError as error:
        report.add_problems(error.problems, "unusable columns")
        return frozenset()
    if not set(targets.names) <= set(table.header):
        return frozenset()  # reported when the data is loaded
    left_out = dropped if used else [*dropped, *dividing.by_key.values()]
    features = chosen_columns(table.header, targets.names, used, left_out)
    columns = {name: table.cells(name) for name in features if name in table.header}
    report.fact("data", rows=len(table.rows), columns=len(features))
    target_cells = [table.cells(name) for name in targets.names]
    _check_missing(report, [*columns.values(), *target_cells], targets, arguments.get("missing"))
    parsed = _parse(report, columns, frozenset(categorical))
    identifiers = frozenset(name for name, column in parsed.items() if counts_rows(column))
    for name in sorted(identifiers):
        report.add("identifiers", "warning", 1, f"column {name} numbers the rows", f"leave it out: data.drop=[{name}]")
    check_repeated(report, columns, parsed)
    if not dividing.by_key:
        check_groups(report, [table.cells(name) for name in table.header if name not in targets.names])
    _check_target(report, parsed, target_cells, targets)
    return identifiers


def _check_missing(report: Report, columns: list[Cells], targets: Targets, chosen: Any) -> None:
    rows = len(columns[0].texts)
    lacks = {cells.name: targets.lack if cells.name in targets.names else is_missing for cells in columns}
    texts = {cells.name: Counter(filter(lacks[cells.name], cells.texts)) for cells in columns}
    counts = {name: counter.total() for name, counter in texts.items() if counter}
    if not counts:
        return
    listed = first_few((f"{name} {count:,}{_spellings(texts[name])}" for name, count in counts.items()), 10)
    mostly_missing = [name for name, count in counts.items() if count > MANY_MISSING * rows]
    refused = chosen is None or (not counts.keys().isdisjoint(targets.names) and chosen != "drop")
    if refused:
        advice = "choose data.missing=mean, median or drop" if chosen is None else "leave rows out: data.missing=drop"
    elif mostly_missing:
        names = first_few(mostly_missing)
        advice = f"more than {MANY_MISSING:.0%} are missing in {names}: consider leaving them out: data.drop=[...]"
    else:
        advice = ""
    severity = "error" if refused else "warning" if mostly_missing else "note"
    report.add("missing values", severity, sum(counts.values()), f"values are missing: {listed}", advice)
    complete = sum(not any(row) for row in zip(*(map(lacks[c.name], c.texts) for c in columns), strict=True))
    if chosen == "drop" and complete < FEW_LEFT * rows:
        message = f"{complete:,} of {rows:,} rows are left by data.missing=drop"
        advice = "data.missing=median keeps the others, or leave out columns with many missing values: data.drop=[...]"
        report.add("missing values", "warning", rows - complete, message, advice)


def _spellings(texts: Counter[str]) -> str:
    """List the texts that count as missing, because they may be meant as values."""
    spellings = [f"{text!r} {count:,}" for text, count in texts.most_common() if text]
    return f" ({first_few(spellings)})" if spellings else ""


def _parse(report: Report, columns: dict[str, Cells], categorical: frozenset[str]) -> dict[str, ParsedColumn]:
    """Return the columns that can be used, and report what is wrong with any of them."""
    parsed = {}
    for name, cells in columns.items():
        if all(map(is_missing, cells.texts)):
            report.add("constant columns", "error", 1, f"column {name} is empty", f"leave it out: data.drop=[{name}]")
            continue
        try:
            column, values = parse_column(cells, categorical=name in categorical)
        except UserError as error:
            problems = recognise.of_table(cells.path, error).problems
            report.add_problems((replace(problem, source="") for problem in problems), "unusable columns")
            continue
        parsed[name] = ParsedColumn(torch.tensor(values, dtype=torch.float64), bool(column.categories))
        check_nearly_constant(report, cells, parsed[name])
        check_far_values(report, name, parsed[name])
    return parsed


def _check_target(report: Report, parsed: dict[str, ParsedColumn], columns: list[Cells], targets: Targets) -> None:
    texts_N = list(zip(*(cells.texts for cells in columns), strict=True))
    rows = [row for row, texts in enumerate(texts_N) if not any(map(targets.lack, texts))]
    if not rows:
        return  # reported with the missing values
    lines, path = columns[0].lines, columns[0].path
    present = [Cells(c.name, [c.texts[row] for row in rows], [lines[row] for row in rows], path) for c in columns]
    try:
        target = targets.parse(present)
    except UserError as error:
        report.add_problems((replace(problem, source="") for problem in error.problems), "label range")
        return
    values = {name: column.values[rows] for name, column in parsed.items()}
    determines = determines_number if target.task == "regression" else determines_class
    names = ["the target"] if target.values.ndim == 1 else target.targets or target.classes
    for place, (name, targets_N) in enumerate(zip(names, target.values.view(len(rows), -1).T, strict=True)):
        if target.task == "regression" and not _check_number(report, present[place], targets_N):
            continue
        _check_leaks(report, values, determines, targets_N, name)


def _check_number(report: Report, cells: Cells, targets_N: torch.Tensor) -> bool:
    """Return whether a target of a regression varies; report one that does not, or that has far values."""
    if bool((targets_N == targets_N[0]).all()):
        message = f"column {cells.name}, the target, is {cells.texts[0]} in every row"
        report.add("label range", "error", 1, message, "there is nothing to learn: choose another data.target")
        return False
    check_far_values(report, cells.name, ParsedColumn(targets_N, categories=False))
    return True


def _check_leaks(
    report: Report, columns: dict[str, torch.Tensor], determines: Determines, targets_N: torch.Tensor, target: str
) -> None:
    for name, values in columns.items():
        present, where = ~values.isnan(), ""
        if not determines(values, targets_N):
            if bool(present.all()) or not determines(values[present], targets_N[present]):
                continue
            where = f" in the {int(present.sum()):,} rows that have a value"
        message = f"column {name} alone determines {target}{where}"
        advice = f"if it is not known before the target is, leave it out: data.drop=[{name}]"
        report.add("leaks", "warning", 1, message, advice)
