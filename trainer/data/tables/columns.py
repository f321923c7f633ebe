"""What a column of cells holds: numbers, categories, classes to be told or a number to be predicted."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import torch

from trainer.data.tables.prepare import Column
from trainer.data.tables.rows import is_missing
from trainer.errors import Problem, UserError

NUMERIC_SHARE = 0.9  # of a column's cells: one that is numeric up to a few cells has bad cells, it is no category
BAD_SHARE = 1 - NUMERIC_SHARE
MAX_CATEGORIES = 50
MAX_NUMBER_CLASSES = 20  # more distinct whole numbers than this in a target, and it is a regression


PLUG_POINTS = (  # what most cells match first; '12,345' everywhere is taken for thousands
    (r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?", "numbers with commas in thousands", "Write them without commas"),
    (r"[-+]?\d*,\d+([eE][-+]?\d+)?|[-+]?\d+", "numbers with decimal commas", "Write them with points"),
    (r"\d{4}[-/.]\d\d?[-/.]\d\d?.*|\d\d?[-/.]\d\d?[-/.](\d{4}|\d\d)", "dates", "Write them as numbers, such as days"),
    (r"[-+]?\d+(\.\d+)?\s*[^\W\d]+|[-+]?\d+(\.\d+)?\s*[%°]\w*", "numbers with a unit", "Write the numbers alone"),
    (r"[^\W\d]+\s*[-+]?\d+(\.\d+)|[$€£¥]\s*[-+]?\d+(\.\d+)?", "numbers with a unit", "Write the numbers alone"),
)
SHARE = 0.9  # of the cells


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def parse_column(
    name: str, cells: list[str], lines: list[int], path: str, problems: list[Problem]
) -> tuple[Column, list[float]]:
    """A column's specification and its values: numbers, or codes of its categories; NaN where missing.

    What makes a column unusable is added to `problems`, and no values are returned.

    Args:
        lines: the number of each cell's line in the file.
    """
    numbers = [math.nan if is_missing(cell) else _number(cell) for cell in cells]
    good = sum(number is not None for number in numbers)
    present = [cell for cell in cells if not is_missing(cell)]
    if len(set(present)) <= 1:
        problems.append(
            Problem(path, f"column {name} is constant and tells nothing", check="constant columns", **_leave_out(name))
        )
        return Column(name), []
    if good < NUMERIC_SHARE * len(cells):
        return _categories(name, cells, path, problems)
    bad = [i for i, number in enumerate(numbers) if number is None or math.isinf(number)]
    if bad:
        problems.append(_bad_cells(name, bad, cells, lines, path))
        return Column(name), []
    return Column(name), [number for number in numbers if number is not None]


def _bad_cells(name: str, bad: list[int], cells: list[str], lines: list[int], path: str) -> Problem:
    """Return the problem of cells in a column of numbers that are no numbers."""
    row, cell = lines[bad[0]], cells[bad[0]]
    if len(bad) == 1:
        return Problem(f"{path}, row {row}, column {name}", f"{cell!r} is no finite number", check="unusable columns")
    reason = f"{len(bad):,} cells are no finite numbers, the first in row {row}: {cell!r}"
    return Problem(f"{path}, column {name}", reason, check="unusable columns")


def _categories(name: str, cells: list[str], path: str, problems: list[Problem]) -> tuple[Column, list[float]]:
    known = sorted({cell for cell in cells if not is_missing(cell)})
    if len(known) > MAX_CATEGORIES or len(known) > max(len(cells) // 2, 2):
        if hidden := number_format(known):
            reason, advice = f"column {name} holds {hidden[0]}", f"{hidden[1]}, or leave it out"
            command = f"data.drop=[{name}]"
            problems.append(Problem(path, reason, advice=advice, command=command, check="unusable columns"))
            return Column(name), []
        reason = f"column {name} has {len(known)} different texts in {len(cells)} rows, like names or numbers of things"
        problems.append(Problem(path, reason, check="identifiers", **_leave_out(name)))
        return Column(name), []
    code = {text: float(i) for i, text in enumerate(known)}
    return Column(name, categories=tuple(known)), [code.get(cell, math.nan) for cell in cells]


def _leave_out(name: str) -> dict[str, str]:
    return {"advice": "Leave it out", "command": f"data.drop=[{name}]"}


def parse_target(
    name: str, cells: list[str], lines: list[int], task: str | None, path: str
) -> tuple[str, tuple[str, ...], torch.Tensor, str]:
    """The task, the classes' names, the targets, and a sentence on how the task was found.

    Raises:
        UserError: cells that are no numbers in a regression, or values that are no classes.
    """
    numbers = [_number(cell) for cell in cells]
    distinct = set(cells)
    bad = [i for i, number in enumerate(numbers) if number is None or not math.isfinite(number)]
    good = {number for number in numbers if number is not None and math.isfinite(number)}
    few_numbers = len(good) <= MAX_NUMBER_CLASSES and all(number == int(number) for number in good)
    found = task or ("multiclass" if bad or few_numbers else "regression")
    if bad and (found == "regression" or (task is None and not few_numbers and len(bad) <= BAD_SHARE * len(cells))):
        problem = _bad_cells(name, bad, cells, lines, path)
        if task is None:
            reason = f"{problem.reason}, where {len(cells) - len(bad):,} are numbers"
            problem = replace(problem, reason=reason, advice="Or say data.task=multiclass.")
        raise UserError(problem)
    if found == "regression":
        values = torch.tensor(numbers, dtype=torch.float64)
        return "regression", (), values, _how(name, "regression", task, len(distinct))
    if len(distinct) > max(MAX_NUMBER_CLASSES, len(cells) // 2):
        raise UserError(
            f"{path}: column {name}, the target, has {len(distinct):,} different values in {len(cells):,} rows, as if "
            "every row were a class of its own. Choose another data.target, or data.task=regression for numbers."
        )
    numeric = not bad
    classes = sorted(distinct, key=float) if numeric else sorted(distinct)
    if len(classes) < 2:
        raise UserError(f"data.target={name}: all rows of {path} are of one class, {classes[0]}.")
    if task == "binary" and len(classes) != 2:
        raise UserError(f"data.task=binary: {name} has {len(classes)} classes: {', '.join(classes[:10])}.")
    found = "binary" if len(classes) == 2 else "multiclass"
    code = {text: i for i, text in enumerate(classes)}
    labels = torch.tensor([code[cell] for cell in cells])
    return found, tuple(classes), labels, _how(name, found, task, len(classes))


def _how(name: str, found: str, asked: str | None, distinct: int) -> str:
    reason = "as asked for" if asked else f"{distinct} different values; data.task says otherwise"
    return f"predicts {name}: {found} ({reason})"


def number_format(cells: Sequence[str]) -> tuple[str, str] | None:
    """What numbers these texts hold, and what to do about it; None where most of them hold none."""
    for pattern, what, advice in PLUG_POINTS:
        like = [cell for cell in cells if re.fullmatch(pattern, cell)]
        if len(like) >= SHARE * len(cells):
            return f"{what} ({like[0]!r})", advice
    return None
