"""A table as its file has it: missing values, columns that cannot be used, and those that tell the target."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from importlib.resources import files
from typing import Any

import torch

from trainer.config.keys import DataConfig
from trainer.data.tables.columns import parse_column, parse_target
from trainer.data.tables.rows import is_missing
from trainer.data.tables.table import chosen_columns, read
from trainer.doctor.columns import ParsedColumn, counts_rows, far_values, nearly_constant, repeated
from trainer.doctor.leaks import tells_class, tells_number
from trainer.errors import Problem, UserError
from trainer.report.findings import Report, some

TARGETS = ("trainer.data.tables.table.csv_table", "trainer.data.tables.table.bundled_table")
CHECKS = ("missing values", "constant columns", "unusable columns", "identifiers", "repeated columns", "scale", "leaks")
MANY_MISSING = 0.3  # of a column
FEW_LEFT = 0.5  # of the rows


def look(report: Report, config: DataConfig) -> frozenset[str]:
    """Adds what is wrong with the table that the configuration names; what keeps it from being read too.

    Returns:
        The columns that tell one row from another and nothing else.
    """
    arguments = config.arguments
    bundled = arguments.get("dataset")
    path = str(files("trainer.data").joinpath(f"bundled/{bundled}.csv")) if bundled else str(arguments.get("path"))
    report.done += CHECKS
    try:
        header, rows = read(path, arguments.get("separator"))
    except UserError as error:
        report.errors("unusable columns", error.problems)
        return frozenset()
    target = str(arguments.get("target"))
    if target not in header:
        return frozenset()  # the loader names it, and what there is
    chosen = chosen_columns(header, target, arguments.get("features"), arguments.get("drop"))
    cells = {name: [row[header.index(name)].strip() for row in rows] for name in [*chosen, target] if name in header}
    report.fact("data", rows=len(rows), columns=len(chosen))
    _missing(report, cells, target, arguments.get("missing"), len(rows))
    parsed = _parsed(report, cells, target, path)
    names = frozenset(name for name, column in parsed.items() if counts_rows(column))
    for name in sorted(names):
        report.add("identifiers", "warning", 1, f"column {name} numbers the rows", f"leave it out: data.drop=[{name}]")
    repeated(report, {name: cells[name] for name in chosen if name in cells}, parsed)
    _leaks(report, parsed, cells[target], target, path, arguments.get("task"))
    return names


def _missing(report: Report, cells: dict[str, list[str]], target: str, chosen: Any, rows: int) -> None:
    texts = {name: Counter(cell for cell in column if is_missing(cell)) for name, column in cells.items()}
    counts = {name: found.total() for name, found in texts.items() if found}
    if not counts:
        return
    told = some((f"{name} {count:,}{_written(texts[name])}" for name, count in counts.items()), 10)
    many = [name for name, count in counts.items() if count > MANY_MISSING * rows]
    refused = chosen is None or (target in counts and chosen != "drop")
    advice = "choose data.missing=mean, median or drop" if chosen is None else "leave rows out: data.missing=drop"
    if many and not refused:
        advice = f"more than {MANY_MISSING:.0%} are missing in {some(many)}: think of leaving it out, data.drop=[...]"
    elif not refused:
        advice = ""
    severity = "error" if refused else "warning" if many else "note"
    report.add("missing values", severity, sum(counts.values()), f"values are missing: {told}", advice)
    left = sum(not any(map(is_missing, row)) for row in zip(*cells.values(), strict=True))
    if chosen == "drop" and left < FEW_LEFT * rows:
        report.add(
            "missing values",
            "warning",
            rows - left,
            f"{left:,} of {rows:,} rows are left by data.missing=drop",
            "data.missing=median keeps the others, or leave out the columns with most holes: data.drop=[...]",
        )


def _written(texts: Counter[str]) -> str:
    """The texts that are taken for a missing value, as they may be meant as a value."""
    told = [f"{text!r} {count:,}" for text, count in texts.most_common() if text]
    return f" ({some(told)})" if told else ""


def _parsed(report: Report, cells: dict[str, list[str]], target: str, path: str) -> dict[str, ParsedColumn]:
    """The values of each column that can be used, NaN where missing; what is wrong with the others is added."""
    lines, parsed = list(range(2, len(cells[target]) + 2)), {}
    for name, column in cells.items():
        if name == target:
            continue
        if all(map(is_missing, column)):
            report.add("constant columns", "error", 1, f"column {name} is empty", f"leave it out: data.drop=[{name}]")
            continue
        problems: list[Problem] = []
        spec, values = parse_column(name, column, lines, path, problems)
        for problem in problems:
            advice = ": ".join(filter(None, (problem.advice, problem.command)))
            what = problem.reason if problem.key == path else f"{problem.key}: {problem.reason}"
            report.add(problem.check, "error", 1, what, advice[:1].lower() + advice[1:])
        if problems:
            continue
        parsed[name] = ParsedColumn(torch.tensor(values, dtype=torch.float64), bool(spec.categories))
        nearly_constant(report, name, column, parsed[name])
        far_values(report, name, parsed[name])
    return parsed


def _leaks(
    report: Report, parsed: dict[str, ParsedColumn], cells: list[str], target: str, path: str, task: str | None
) -> None:
    """Adds what is wrong with the target, or the columns that tell it."""
    rows = [row for row, cell in enumerate(cells) if not is_missing(cell)]
    if not rows:
        return  # told by what is missing
    try:
        found, _, targets, _ = parse_target(target, [cells[row] for row in rows], [row + 2 for row in rows], task, path)
    except UserError as error:
        report.errors("label range", [replace(p, key="") if p.key == path else p for p in error.problems])
        return
    if found == "regression" and bool((targets == targets[0]).all()):
        told = f"column {target}, the target, is {cells[rows[0]]} in every row"
        report.add("label range", "error", 1, told, "there is nothing to learn: choose another data.target")
        return
    if found == "regression":
        far_values(report, target, ParsedColumn(targets, False))
    for name, column in parsed.items():
        values = column.values[rows]
        present = ~values.isnan()
        tells = tells_number if found == "regression" else tells_class
        where = ""
        if not tells(values, targets):
            if bool(present.all()) or not tells(values[present], targets[present]):
                continue
            where = f" in the {int(present.sum()):,} rows that have a value"
        report.add(
            "leaks",
            "warning",
            1,
            f"column {name} alone tells the target{where}",
            f"is it known before the target is? If not, leave it out: data.drop=[{name}]",
        )
