"""Single columns of a table, and pairs that are the same. Shape letters: N rows, K columns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainer.data.tables.rows import is_missing
from trainer.doctor.leaks import GROUP
from trainer.report.findings import Report

ONE_VALUE = 0.995  # of a column's rows that have the same value
SMALLEST_SPREAD = 1e-9  # of a column's mean: below it, a deviation is noise of rounding
STAND_INS = frozenset(sign * value for value in (9, 99, 999, 9999, 99999, 999999) for sign in (1, -1))
FAR = 10_000  # times the interquartile range from the median
SAME_UNITS = 1 - 1e-9  # correlation of two columns that are one, in two units
MOST_PAIRED = 1000  # columns whose correlations are taken


@dataclass(frozen=True)
class ParsedColumn:
    """A column that can be used: numbers or codes of categories [N], NaN where missing."""

    values: Tensor
    categories: bool


def nearly_constant(report: Report, name: str, cells: list[str], column: ParsedColumn) -> None:
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


def far_values(report: Report, name: str, column: ParsedColumn) -> None:
    """Adds numbers that stand far from all others: one that may stand for a missing value, or a slip of the pen."""
    values_N = column.values[~column.values.isnan()]
    if column.categories or len(values_N) < 3:
        return
    different = values_N.unique()
    for stand_in, others in ((different[0], different[1:]), (different[-1], different[:-1])):
        if float(stand_in) not in STAND_INS or len(others) < 3:
            continue
        count = int((values_N == stand_in).sum())
        gap = min(float((others - stand_in).abs().min()), float(stand_in.abs()))
        if count > 1 and gap > float(others[-1] - others[0]):
            report.add(
                "missing values",
                "warning",
                count,
                f"column {name} is {float(stand_in):g} in {count:,} rows, far from its other values, "
                f"{float(others[0]):.4g} to {float(others[-1]):.4g}",
                "if it stands for a missing value, leave the cells empty and choose data.missing",
            )
            return
    low, middle, high = np.quantile(values_N.numpy(), (0.25, 0.5, 0.75)).tolist()
    away_N = (values_N - middle).abs()
    if low < high and (far := int((away_N > FAR * (high - low)).sum())):
        report.add(
            "scale",
            "warning",
            far,
            f"column {name}: {far:,} of {len(values_N):,} values are more than {FAR:,} times as far from the median as "
            f"its quartiles are from each other, such as {float(values_N[away_N.argmax()]):g}",
            "scaled by them, all other values are the same: mend them, or take the column's logarithm",
        )


def counts_rows(column: ParsedColumn) -> bool:
    """Whether these are as many whole numbers as there are rows, one after the other, in whatever order."""
    values_N = column.values
    if column.categories or len(values_N) < 3 or bool(values_N.isnan().any()):
        return False
    distinct = values_N.sort().values
    return bool((distinct.diff() == 1).all()) and bool(distinct[0] == distinct[0].floor())


def repeated(report: Report, cells: dict[str, list[str]], parsed: dict[str, ParsedColumn]) -> None:
    """Adds columns that are others once more: the same, the same in other codes, or in another unit."""
    first: dict[tuple[str, ...], str] = {}
    coded: dict[tuple[int, ...], str] = {}
    same: set[str] = set()
    for name, column in cells.items():
        different = len(set(column))
        if different < 2:
            continue
        twin, how = first.setdefault(tuple(column), name), "the same as {}"
        if twin == name and name in parsed and different * GROUP <= len(column):
            codes: dict[str, int] = {}
            twin = coded.setdefault(tuple(codes.setdefault(cell, len(codes)) for cell in column), name)
            how = "the same as {} in other codes"
        if twin != name:
            same.add(name)
            # Of two values, one column is often meant as the opposite of the other.
            _add_twin(report, name, how.format(twin), "note" if different == 2 and "codes" in how else "warning")
    numbers = {n: c.values for n, c in parsed.items() if n not in same and _varies(c)}
    if not 1 < len(numbers) <= MOST_PAIRED:
        return
    names = list(numbers)
    alike_KK = torch.corrcoef(torch.stack(list(numbers.values()))).abs().triu(1) > SAME_UNITS
    for twin, name in {j: i for i, j in alike_KK.nonzero().flip(0).tolist()}.items():
        _add_twin(report, names[twin], f"the same as {names[name]} in another unit", "warning")


def _varies(column: ParsedColumn) -> bool:
    """Whether these are numbers without gaps, and of more than two values."""
    return not column.categories and not bool(column.values.isnan().any()) and len(column.values.unique()) > 2


def _add_twin(report: Report, name: str, what: str, severity: str) -> None:
    report.add("repeated columns", severity, 1, f"column {name} is {what}", f"leave it out: data.drop=[{name}]")
