"""The columns of a table: missing, constant, unusable, repeated, and those that tell the target."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from trainer.data.table import chosen_columns, parse_column, parse_target, read
from trainer.data.table_rows import is_missing
from trainer.doctor.findings import Report, some
from trainer.doctor.leaks import tells_class, tells_number
from trainer.errors import UserError
from trainer.keys import DataConfig

TARGETS = ("trainer.data.table.csv_table", "trainer.data.table.bundled_table")
CHECKS = ("missing values", "constant columns", "unusable columns", "identifiers", "repeated columns", "leaks")
ADVICE = re.compile(r"\. (?=Leave |Write )")  # where the loader's advice begins; a cell may hold a full stop too
MANY_MISSING = 0.3  # of a column
FEW_LEFT = 0.5  # of the rows
ONE_VALUE = 0.995  # of a column's rows that have the same value
SMALLEST_SPREAD = 1e-9  # of a column's mean: below it, a deviation is noise of rounding


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
    names = frozenset(name for name, column in parsed.items() if _counts_rows(column))
    for name in sorted(names):
        report.add("identifiers", "warning", 1, f"column {name} numbers the rows", f"leave it out: data.drop=[{name}]")
    _repeated(report, cells, target)
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


@dataclass(frozen=True)
class Parsed:
    """A column that can be used: numbers or codes of categories [N], NaN where missing."""

    values: Tensor
    categories: bool


def _parsed(report: Report, cells: dict[str, list[str]], target: str, path: str) -> dict[str, Parsed]:
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
            what, *more = ADVICE.split(problem.rstrip("."))
            advice = "".join(more)
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
        parsed[name] = Parsed(torch.tensor(values, dtype=torch.float64), bool(spec.categories))
        _nearly_constant(report, name, column, parsed[name])
    return parsed


def _nearly_constant(report: Report, name: str, cells: list[str], column: Parsed) -> None:
    """Adds a column that hardly varies: in how many rows, or by how much."""
    common, count = Counter(cells).most_common(1)[0]
    if count >= ONE_VALUE * len(cells) and not is_missing(common):
        others = len(cells) - count
        told = f"column {name} is almost constant: {common!r} in all but {others:,} of {len(cells):,} rows"
        report.add("constant columns", "note", others, told)
    known = column.values[~column.values.isnan()]
    if not column.categories and float(known.std(correction=0)) < SMALLEST_SPREAD * float(known.mean().abs()):
        report.add(
            "constant columns",
            "warning",
            1,
            f"column {name} is almost constant: its deviation is {float(known.std(correction=0)):.1g}, "
            f"its mean {float(known.mean()):.4g}",
            f"scaling makes noise of rounding as large as any other column: data.drop=[{name}]",
        )


def _counts_rows(column: Parsed) -> bool:
    """Whether these are as many whole numbers as there are rows, one after the other, in whatever order."""
    values_N = column.values
    if column.categories or len(values_N) < 3 or bool(values_N.isnan().any()):
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


def _leaks(
    report: Report, parsed: dict[str, Parsed], cells: list[str], target: str, path: str, task: str | None
) -> None:
    """Adds what is wrong with the target, or the columns that tell it."""
    rows = [row for row, cell in enumerate(cells) if not is_missing(cell)]
    if not rows:
        return  # told by what is missing
    try:
        found, _, targets, _ = parse_target(target, [cells[row] for row in rows], [row + 2 for row in rows], task, path)
    except UserError as error:
        report.errors("label range", [problem.removeprefix(f"{path}: ") for problem in error.problems])
        return
    if found == "regression" and bool((targets == targets[0]).all()):
        told = f"column {target}, the target, is {cells[rows[0]]} in every row"
        report.add("label range", "error", 1, told, "there is nothing to learn: choose another data.target")
        return
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
