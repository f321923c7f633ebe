"""Parsing of text cells into numbers, categories, classes or a regression's target."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from trainer.data.tables.cells import NoCell, Text
from trainer.data.tables.dates import parse_date
from trainer.data.tables.numerals import parse_number
from trainer.data.tables.prepare import Column
from trainer.data.tables.rows import PARSERS, is_missing
from trainer.errors import Problem, UserError

NUMERIC_SHARE = 0.9  # of the cells: from here on a column is numeric, and other cells are mistakes
BAD_SHARE = 1 - NUMERIC_SHARE
MAX_CATEGORIES = 50
MOST_CHOSEN = 1000  # categories of a column of data.categorical
MAX_NUMBER_CLASSES = 20  # more distinct whole numbers than this in a target make it a regression
WORDS = 4  # on average, from which on different texts are no names
FORMAT_SHARE = 0.9  # of the cells that match a format

# The first format that most cells match is reported; '12,345' in every cell is taken for thousands.
NUMBER_FORMATS = (
    (r"(?=.*[^ -~])[-+]?[\d.,]+", "numbers in other digits", "Write them in the digits 0 to 9"),
    (r"[-+]?\d+(_\d+)+(\.\d+)?|[-+]?\d+", "numbers with underscores", "Write them without underscores"),
    (r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?", "numbers with commas in thousands", "Write them without commas"),
    (r"[-+]?\d*,\d+([eE][-+]?\d+)?|[-+]?\d+", "numbers with decimal commas", "Write them with points"),
    (r"\d{4}[-/.]\d\d?[-/.]\d\d?.*|\d\d?[-/.]\d\d?[-/.](\d{4}|\d\d)", "dates", "Write them as 2024-01-31"),
    (r"[-+]?\d+(\.\d+)?\s*[^\W\d]+|[-+]?\d+(\.\d+)?\s*[%°]\w*", "numbers with a unit", "Write the numbers alone"),
    (r"[^\W\d]+\s*[-+]?\d+(\.\d+)|[$€£¥]\s*[-+]?\d+(\.\d+)?", "numbers with a unit", "Write the numbers alone"),
)


@dataclass(frozen=True)
class Cells:
    """The cells of a column without surrounding blanks, and for messages the line of each and the file."""

    name: str
    texts: Sequence[str]
    lines: Sequence[int]
    path: str


def parse_column(cells: Cells, *, categorical: bool = False) -> tuple[Column, list[float]]:
    """Return the specification of a column and its values: numbers or codes of categories, NaN if missing.

    A date is a number of days, `true` and `false` are 1 and 0.

    Args:
        cells: the column.
        categorical: whether its values are categories, whatever they look like.

    Raises:
        UserError: the column is constant, has bad cells, or has too many texts for categories.
    """
    present = [text for text in cells.texts if not is_missing(text)]
    if odd := next((text for text in present if isinstance(text, NoCell)), None):
        raise UserError(_unusable(cells, f"holds {odd}, which is no cell", "Leave it out", "unusable columns"))
    if len(set(present)) <= 1:
        raise UserError(_unusable(cells, "has a single value", "Leave it out", "constant columns"))
    if categorical or all(isinstance(text, Text) for text in present):
        return _parse_categories(cells, MOST_CHOSEN if categorical else None)
    usable = sum(is_missing(text) or parse_number(text) is not None for text in cells.texts)
    if usable >= NUMERIC_SHARE * len(cells.texts):
        return _parse_as("number", cells)
    if {text.lower() for text in present} == {"true", "false"}:
        return _parse_as("boolean", cells)
    if sum(parse_date(text) is not None for text in present) >= NUMERIC_SHARE * len(present):
        return _parse_as("date", cells)
    return _parse_categories(cells)


def _parse_as(kind: str, cells: Cells) -> tuple[Column, list[float]]:
    parse, expected = PARSERS[kind]
    values = [math.nan if is_missing(text) else parse(text) for text in cells.texts]
    bad = [i for i, value in enumerate(values) if value is None or math.isinf(value)]
    if bad:
        raise UserError(_bad_cells(cells, bad, expected))
    return Column(cells.name, kind=kind), [value for value in values if value is not None]


def _unusable(cells: Cells, reason: str, advice: str, check: str) -> Problem:
    command = f"data.drop=[{cells.name}]"
    return Problem("", f"column {cells.name} {reason}", advice=advice, command=command, source=cells.path, check=check)


def _bad_cells(cells: Cells, bad: list[int], expected: str = "a finite number") -> Problem:
    """Return the problem of cells that are not what a column of numbers or dates holds."""
    line, text = cells.lines[bad[0]], cells.texts[bad[0]]
    advice = ""
    if len(bad) == 1:
        key, reason = f"row {line}, column {cells.name}", f"{text!r} is not {expected}"
        if bad == [0] and not any(map(str.isdigit, text)):
            advice = "Is it a second header line? Delete it."
    else:
        several = expected.replace("a date", "dates").replace("a finite number", "finite numbers")
        key = f"column {cells.name}"
        reason = f"{len(bad):,} cells are not {several}, the first in row {line}: {text!r}"
    return Problem(key, reason, source=cells.path, advice=advice, check="unusable columns")


def _parse_categories(cells: Cells, most: int | None = None) -> tuple[Column, list[float]]:
    """Parse a column as categories; `most` is how many there may be, by default few compared with the rows."""
    count = len(cells.texts)
    categories = sorted({str(text) for text in cells.texts if not is_missing(text)})
    if len(categories) > (most or min(MAX_CATEGORIES, max(count // 2, 2))):
        raise UserError(_too_many(cells, categories))
    code = {text: float(i) for i, text in enumerate(categories)}
    return Column(cells.name, categories=tuple(categories)), [code.get(text, math.nan) for text in cells.texts]


def _too_many(cells: Cells, categories: Sequence[str]) -> Problem:
    """Return the problem of a column with too many texts for categories."""
    if found := number_format(categories):
        what, advice = found
        return _unusable(cells, f"holds {what}", f"{advice}, or leave it out", "unusable columns")
    numbers = all(parse_number(text) is not None for text in categories)
    if numbers and all(isinstance(text, Text) for text in cells.texts if not is_missing(text)):
        reason = "holds numbers that the file declares as text"
        return _unusable(cells, reason, "Write them as numbers, or leave it out", "unusable columns")
    if (words := sum(len(text.split()) for text in categories) / len(categories)) >= WORDS:
        reason = f"holds texts, of {words:.0f} words on average, which no model here reads"
        advice = "Put numbers in its place, such as embeddings, or leave it out"
        return _unusable(cells, reason, advice, "identifiers")
    reason = f"has {len(categories)} different texts in {len(cells.texts)} rows, like names or identifiers"
    advice = "Leave it out"
    if 2 * len(categories) <= len(cells.texts):
        advice = f"Keep the rows of each in one split with data.group={cells.name}, or leave it out"
    return _unusable(cells, reason, advice, "identifiers")


@dataclass(frozen=True)
class TargetColumn:
    """The target of a table.

    Attributes:
        task: `binary`, `multiclass`, `multilabel` or `regression`.
        classes: names in label order, also of labels; empty for a regression.
        values: classes int64 [N], numbers float64 [N] or [N, K], or labels int64 [N, K].
        note: a sentence for the header on how the task was determined.
        targets: the names of several numbers; empty for one.
    """

    task: str
    classes: tuple[str, ...]
    values: torch.Tensor
    note: str
    targets: tuple[str, ...] = ()


def parse_target(cells: Cells, task: str | None) -> TargetColumn:
    """Return the target of a table; no cell may be missing.

    `task` is `binary`, `multiclass` or `regression`; None infers it from the values.

    Raises:
        UserError: a regression with cells that are not numbers, or values that are not classes.
    """
    numbers = [parse_number(text) for text in cells.texts]
    distinct = set(map(str, cells.texts))  # of cells that a file declares as text too
    finite = [number for number in numbers if number is not None and math.isfinite(number)]
    bad = [i for i, number in enumerate(numbers) if number is None or not math.isfinite(number)]
    whole_numbers = len(set(finite)) <= MAX_NUMBER_CLASSES and all(number == int(number) for number in finite)
    chosen = task or ("multiclass" if bad or whole_numbers else "regression")
    mostly_numbers = task is None and not whole_numbers and len(bad) <= BAD_SHARE * len(numbers)
    if bad and (chosen == "regression" or mostly_numbers):
        problem = _bad_cells(cells, bad)
        if task is None:
            reason = f"{problem.reason}, where {len(numbers) - len(bad):,} are numbers"
            problem = replace(problem, reason=reason, advice="Or set data.task=multiclass.")
        raise UserError(replace(problem, check="label range"))
    if chosen == "regression":
        note = _note(cells.name, chosen, task, len(distinct))
        return TargetColumn(chosen, (), torch.tensor(numbers, dtype=torch.float64), note)
    classes = sorted(distinct) if bad else sorted(distinct, key=float)
    _check_classes(cells, classes, task)
    chosen = "binary" if len(classes) == 2 else "multiclass"
    code = {text: i for i, text in enumerate(classes)}
    labels = torch.tensor([code[text] for text in cells.texts])
    return TargetColumn(chosen, tuple(classes), labels, _note(cells.name, chosen, task, len(classes)))


def _check_classes(cells: Cells, classes: list[str], task: str | None) -> None:
    check = "label range"
    if len(classes) > max(MAX_NUMBER_CLASSES, len(cells.texts) // 2):
        reason = (
            f"column {cells.name}, the target, has {len(classes):,} different values in {len(cells.texts):,} rows, as "
            "if every row were a class of its own"
        )
        advice = "Choose another data.target, or data.task=regression for numbers."
        raise UserError(Problem("", reason, advice=advice, source=cells.path, check=check))
    if len(classes) < 2:
        reason = f"all rows of {cells.path} are of one class, {classes[0]}"
        raise UserError(Problem("data.target", reason, given=cells.name, check=check))
    if task == "binary" and len(classes) != 2:
        reason = f"{cells.name} has {len(classes)} classes: {', '.join(classes[:10])}"
        raise UserError(Problem("data.task", reason, given=task, check=check))


def _note(name: str, chosen: str, configured: str | None, distinct: int) -> str:
    reason = "as configured" if configured else f"{distinct} different values; data.task overrides it"
    return f"predicts {name}: {chosen} ({reason})"


def number_format(texts: Sequence[str]) -> tuple[str, str] | None:
    """Return the format of numbers that most of these texts have, and advice; None if they have none."""
    for pattern, what, advice in NUMBER_FORMATS:
        matching = [text for text in texts if re.fullmatch(pattern, text)]
        if len(matching) >= FORMAT_SHARE * len(texts):
            return f"{what} ({matching[0]!r})", advice
    return None
