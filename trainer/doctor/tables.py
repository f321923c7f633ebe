"""The columns of a table: missing, constant, unusable, repeated, and those that tell the target."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from trainer.data.table import chosen_columns, parse_column, read
from trainer.data.table_rows import is_missing
from trainer.doctor.findings import Report, some
from trainer.doctor.leaks import tells_class, tells_number
from trainer.errors import UserError
from trainer.keys import DataConfig

TARGETS = ("trainer.data.table.csv_table", "trainer.data.table.bundled_table")
CHECKS = ("missing values", "constant columns", "unusable columns", "identifiers", "repeated columns", "leaks")
MANY_MISSING = 0.3  # of a column
MOST_CLASSES = 20  # different values of a target that are classes, as the loader has it


def look(report: Report, config: DataConfig) -> None:
    """Adds what is wrong with the table that the configuration names; what keeps it from being read too."""
    arguments = config.arguments
    bundled = arguments.get("dataset")
    path = str(files("trainer.data").joinpath(f"bundled/{bundled}.csv")) if bundled else str(arguments.get("path"))
    report.done += CHECKS
    try:
        header, rows = read(path, arguments.get("separator"))
    except UserError as error:
        report.errors("unusable columns", error.problems)
        return
    target = str(arguments.get("target"))
    if target not in header:
        return  # the loader names it, and what there is
    chosen = chosen_columns(header, target, arguments.get("features"), arguments.get("drop"))
    cells = {name: [row[header.index(name)].strip() for row in rows] for name in [*chosen, target] if name in header}
    report.fact("data", rows=len(rows), columns=len(chosen))
    _missing(report, cells, target, arguments.get("missing"), len(rows))
    parsed = _parsed(report, cells, target, path)
    _repeated(report, cells, target)
    _leaks(report, parsed, cells[target], arguments.get("task"))


def _missing(report: Report, cells: dict[str, list[str]], target: str, chosen: Any, rows: int) -> None:
    counts = {name: sum(map(is_missing, column)) for name, column in cells.items()}
    counts = {name: count for name, count in counts.items() if count}
    if not counts:
        return
    told = some((f"{name} {count:,}" for name, count in counts.items()), 10)
    many = [name for name, count in counts.items() if count > MANY_MISSING * rows]
    refused = chosen is None or (target in counts and chosen != "drop")
    advice = "choose data.missing=mean, median or drop" if chosen is None else "leave rows out: data.missing=drop"
    if many and not refused:
        advice = f"more than {MANY_MISSING:.0%} are missing in {some(many)}: think of leaving it out, data.drop=[...]"
    elif not refused:
        advice = ""
    severity = "error" if refused else "warning" if many else "note"
    report.add("missing values", severity, sum(counts.values()), f"values are missing: {told}", advice)


def _parsed(report: Report, cells: dict[str, list[str]], target: str, path: str) -> dict[str, Tensor]:
    """The values of each column that can be used, NaN where missing; what is wrong with the others is added."""
    lines, parsed = list(range(2, len(cells[target]) + 2)), {}
    for name, column in cells.items():
        if name == target:
            continue
        if all(map(is_missing, column)):
            report.add("constant columns", "error", 1, f"column {name} is empty", f"leave it out: data.drop=[{name}]")
            continue
        problems: list[str] = []
        spec, values = parse_column(name, column, lines, path, problems)
        for problem in problems:
            what, _, advice = problem.rstrip(".").partition(". ")
            check = (
                "constant columns"
                if "is constant" in what
                else "identifiers"
                if "different texts" in what
                else "unusable columns"
            )
            report.add(check, "error", 1, what.removeprefix(f"{path}: "), advice[:1].lower() + advice[1:])
        if problems:
            continue
        parsed[name] = torch.tensor(values, dtype=torch.float64)
        if not spec.categories and _counts_rows(parsed[name]):
            report.add(
                "identifiers",
                "warning",
                1,
                f"column {name} numbers the rows",
                f"leave it out: data.drop=[{name}]",
            )
    return parsed


def _counts_rows(values_N: Tensor) -> bool:
    """Whether these are as many whole numbers as there are rows, one after the other, in whatever order."""
    if len(values_N) < 3 or bool(values_N.isnan().any()):
        return False
    distinct = values_N.sort().values
    return bool((distinct.diff() == 1).all()) and bool(distinct[0] == distinct[0].floor())


def _repeated(report: Report, cells: dict[str, list[str]], target: str) -> None:
    first: dict[tuple[str, ...], str] = {}
    for name, column in cells.items():
        twin = first.setdefault(tuple(column), name)
        if twin != name and len(set(column)) > 1 and target not in (name, twin):
            report.add(
                "repeated columns",
                "warning",
                1,
                f"column {name} is the same as {twin}",
                f"leave it out: data.drop=[{name}]",
            )


def _leaks(report: Report, parsed: dict[str, Tensor], column: list[str], task: Any) -> None:
    known = torch.tensor([not is_missing(cell) for cell in column])
    present = [cell for cell in column if not is_missing(cell)]
    distinct = sorted(set(present))
    numeric = all(re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", cell) for cell in distinct)
    whole = numeric and all(float(cell) == int(float(cell)) for cell in distinct)
    as_number = task == "regression" or (task is None and numeric and not (whole and len(distinct) <= MOST_CLASSES))
    if as_number and not numeric:
        return
    code = {text: n for n, text in enumerate(distinct)}
    targets = torch.tensor([float(c) if as_number else code[c] for c in present], dtype=torch.float64)
    for name, values in parsed.items():
        if tells_number(values[known], targets) if as_number else tells_class(values[known], targets.long()):
            report.add(
                "leaks",
                "warning",
                1,
                f"column {name} alone tells the target",
                f"is it known before the target is? If not, leave it out: data.drop=[{name}]",
            )
