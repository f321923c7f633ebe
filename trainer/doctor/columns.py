"""Checks of single columns of a table, and of pairs of equal columns. Shape letters: N rows, K columns."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainer.data.tables.columns import MAX_CATEGORIES, Cells
from trainer.data.tables.dates import parse_date
from trainer.data.tables.numerals import parse_number
from trainer.data.tables.rows import is_missing
from trainer.doctor.leaks import GROUP
from trainer.report.findings import Report

ONE_VALUE = 0.995  # of a column's rows that have the same value
SMALLEST_SPREAD = 1e-9  # standard deviation / mean: below it, the deviation is rounding error
PLACEHOLDERS = frozenset(sign * value for value in (9, 99, 999, 9999, 99999, 999999) for sign in (1, -1))
FAR = 10_000  # interquartile ranges from the median
FEWEST_GROUPS = 5
GROUP_NAME = re.compile(
    r"(?i)(^|[^a-z])(patient|subject|person|people|user|customer|client|participant|player|animal|family|household|site|"
    r"hospital|clinic|session|device|machine|speaker|author|writer|group|cluster|id|ids)s?([^a-z]|$)|_id$"
)
SAME_UNITS = 1 - 1e-9  # correlation of a column with itself in another unit
MAX_CORRELATED = 1000  # columns whose correlations are computed


@dataclass(frozen=True)
class ParsedColumn:
    """A usable column: float64 [N], numbers or codes of categories, NaN if missing."""

    values: Tensor
    categories: bool


def check_nearly_constant(report: Report, cells: Cells, column: ParsedColumn) -> None:
    """Report a column with one value in nearly all rows, or with a tiny spread."""
    name, rows = cells.name, len(cells.texts)
    common, count = Counter(cells.texts).most_common(1)[0]
    if count >= ONE_VALUE * rows and not is_missing(common):
        message = f"column {name} is almost constant: {common!r} in all but {rows - count:,} of {rows:,} rows"
        report.add("constant columns", "note", rows - count, message)
    present = column.values[~column.values.isnan()]
    if column.categories:
        return
    deviation, mean = float(present.std(correction=0)), float(present.mean())
    if deviation < SMALLEST_SPREAD * abs(mean):
        message = f"column {name} is almost constant: its standard deviation is {deviation:.1g}, its mean {mean:.4g}"
        advice = f"scaling makes rounding errors as large as any other column: data.drop=[{name}]"
        report.add("constant columns", "warning", 1, message, advice)


def check_far_values(report: Report, name: str, column: ParsedColumn) -> None:
    """Report numbers far from all others: a placeholder for missing values, or a typing mistake."""
    values_N = column.values[~column.values.isnan()]
    if column.categories or len(values_N) < 3:
        return
    if _check_placeholder(report, name, values_N):
        return
    low, middle, high = np.quantile(values_N.numpy(), (0.25, 0.5, 0.75)).tolist()
    distance_N = (values_N - middle).abs()
    if low < high and (far := int((distance_N > FAR * (high - low)).sum())):
        example = float(values_N[distance_N.argmax()])
        message = (
            f"column {name}: {far:,} of {len(values_N):,} values are more than {FAR:,} times as far from the median as "
            f"its quartiles are from each other, such as {example:g}"
        )
        advice = "scaled with them, all other values are nearly equal: correct them, or take the column's logarithm"
        report.add("scale", "warning", far, message, advice)


def _check_placeholder(report: Report, name: str, values_N: Tensor) -> bool:
    """Report an extreme value such as -999 that may stand for a missing one; return whether there is one."""
    distinct = values_N.unique()
    for value, others in ((distinct[0], distinct[1:]), (distinct[-1], distinct[:-1])):
        if float(value) not in PLACEHOLDERS or len(others) < 3:
            continue
        count = int((values_N == value).sum())
        gap = min(float((others - value).abs().min()), float(value.abs()))
        if count > 1 and gap > float(others[-1] - others[0]):
            message = (
                f"column {name} is {float(value):g} in {count:,} rows, far from its other values, "
                f"{float(others[0]):.4g} to {float(others[-1]):.4g}"
            )
            advice = "if it stands for a missing value, leave the cells empty and choose data.missing"
            report.add("missing values", "warning", count, message, advice)
            return True
    return False


def counts_rows(column: ParsedColumn) -> bool:
    """Return whether the values are consecutive whole numbers, one for each row, in any order."""
    values_N = column.values
    if column.categories or len(values_N) < 3 or bool(values_N.isnan().any()):
        return False
    ordered = values_N.sort().values
    return bool((ordered.diff() == 1).all()) and bool(ordered[0] == ordered[0].floor())


def check_groups(report: Report, columns: Iterable[Cells]) -> None:
    """Report columns that look like the identifiers of people or things with several rows each.

    Such a column is called so, or has more texts than a category; most of its values are in several rows.
    """
    for cells in columns:
        counts = Counter(text for text in cells.texts if not is_missing(text))
        rows = counts.total()
        repeated = sum(count > 1 for count in counts.values())
        if len(counts) < FEWEST_GROUPS or 2 * len(counts) > rows or 2 * repeated < len(counts):
            continue
        numbers = [parse_number(text) for text in counts]
        coded = all(number is not None and math.isfinite(number) and number == int(number) for number in numbers)
        texts = all(number is None for number in numbers) and not any(map(parse_date, counts))
        if (GROUP_NAME.search(cells.name) and (coded or texts)) or (texts and len(counts) > MAX_CATEGORIES):
            message = (
                f"column {cells.name} has {len(counts):,} values in {rows:,} rows, like people or things with several "
                "rows each, whose rows may be in two splits"
            )
            advice = f"keep the rows of each together: data.group={cells.name}"
            report.add("groups", "warning", 1, message, advice)


def check_repeated(report: Report, columns: dict[str, Cells], parsed: dict[str, ParsedColumn]) -> None:
    """Report columns that equal another one, as they are, in other codes or in another unit."""
    by_texts: dict[tuple[str, ...], str] = {}
    by_codes: dict[tuple[int, ...], str] = {}
    equal: set[str] = set()
    for name, cells in columns.items():
        distinct = len(set(cells.texts))
        if distinct < 2:
            continue
        twin, how = by_texts.setdefault(tuple(cells.texts), name), "the same as {}"
        if twin == name and name in parsed and distinct * GROUP <= len(cells.texts):
            codes: dict[str, int] = {}
            twin = by_codes.setdefault(tuple(codes.setdefault(text, len(codes)) for text in cells.texts), name)
            how = "the same as {} in other codes"
        if twin != name:
            equal.add(name)
            # A column of two values is often the intended opposite of another.
            _add_twin(report, name, how.format(twin), "note" if distinct == 2 and "codes" in how else "warning")
    numbers = {name: column.values for name, column in parsed.items() if name not in equal and _varies(column)}
    if not 1 < len(numbers) <= MAX_CORRELATED:
        return
    names = list(numbers)
    same_KK = torch.corrcoef(torch.stack(list(numbers.values()))).abs().triu(1) > SAME_UNITS
    for twin, name in {j: i for i, j in same_KK.nonzero().flip(0).tolist()}.items():
        _add_twin(report, names[twin], f"the same as {names[name]} in another unit", "warning")


def _varies(column: ParsedColumn) -> bool:
    """Return whether the column holds numbers, none of them missing, with more than two values."""
    return not column.categories and not bool(column.values.isnan().any()) and len(column.values.unique()) > 2


def _add_twin(report: Report, name: str, relation: str, severity: str) -> None:
    report.add("repeated columns", severity, 1, f"column {name} is {relation}", f"leave it out: data.drop=[{name}]")
