"""Tables: any delimited file becomes numbers and categories, or a sentence that names the cell that will not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.resources import files

import torch

from trainer.convert import did_you_mean
from trainer.data.disguised import disguised
from trainer.data.source import Arrays, Source
from trainer.data.table_prepare import Column
from trainer.data.table_rows import FILLED, BadRow, Encoder, is_missing, stream
from trainer.errors import UserError

NUMERIC_SHARE = 0.9  # of a column's cells: one that is numeric up to a few cells has bad cells, it is no category
BAD_SHARE = 1 - NUMERIC_SHARE
MAX_CATEGORIES = 50
MAX_NUMBER_CLASSES = 20  # more distinct whole numbers than this in a target, and it is a regression

Cells = list[list[str]]


@dataclass(frozen=True)
class Known:
    """What a trained model knows of its table.

    Attributes:
        columns: with their categories.
        classes: none for a regression; None where they are as the file suggests.
    """

    columns: tuple[Column, ...]
    classes: tuple[str, ...] | None


def bundled_table(dataset: str, target: str, task: str | None = None, like: Known | None = None) -> Source:
    """One of the tables in trainer/data/bundled."""
    path = files("trainer.data").joinpath(f"bundled/{dataset}.csv")
    return csv_table(str(path), target, task=task, like=like)


def csv_table(
    path: str,
    target: str,
    features: list[str] | None = None,
    drop: list[str] | None = None,
    task: str | None = None,
    separator: str | None = None,
    missing: str | None = None,
    like: Known | None = None,
) -> Source:
    """A delimited text file with a header line, read with the standard library's csv module.

    Args:
        target: the column to predict.
        features: the columns to predict from; default: all others, less `drop`.
        task: `binary`, `multiclass` or `regression`; default: as the target's values suggest.
        separator: default: found in the header line.
        missing: `mean`, `median` (fitted later on the training part) or `drop` (the row); default: refused.
        like: columns, categories and classes are these, whatever the file suggests; features and drop mean nothing.

    Raises:
        UserError: what cannot be used, with file, row and column.
    """
    _check_choices(task, missing)
    header, rows, numbers = _numbered(path, separator)
    where = f"data.path={path}"
    if target not in header:
        raise UserError(f"data.target={target}: {path} has no such column.{did_you_mean(target, header)} "
                        f"There is: {', '.join(header)}.")  # fmt: skip
    if like is not None:
        return _as_known(like, header, rows, numbers, target, missing, task, path)
    for key, names in (("features", features), ("drop", drop)):
        for name in names or []:
            if name not in header:
                raise UserError(f"data.{key}: {path} has no column {name}.{did_you_mean(name, header)}")
    chosen = chosen_columns(header, target, features, drop)
    if not chosen:
        raise UserError(f"{where}: no column is left to predict from.")
    columns = {name: [row[header.index(name)].strip() for row in rows] for name in [*chosen, target]}
    kept = _keep(columns, target, missing, where)
    columns = {name: [cells[i] for i in kept] for name, cells in columns.items()}
    lines = [numbers[i] for i in kept]
    problems: list[str] = []
    parsed = [parse_column(name, columns[name], lines, path, problems) for name in chosen]
    if problems:
        raise UserError(*problems)
    inputs = torch.tensor([values for _, values in parsed], dtype=torch.float64).T.contiguous()
    task, classes, targets, note = parse_target(target, columns[target], lines, task, path)
    specs = tuple(column for column, _ in parsed)
    return Source({"train": Arrays(inputs, targets)}, classes, task=task, columns=specs, missing=missing, notes=[note])


def chosen_columns(header: list[str], target: str, features: list[str] | None, drop: list[str] | None) -> list[str]:
    """The columns to predict from."""
    return [n for n in (features or header) if n != target and n not in (drop or [])]


def _as_known(
    like: Known,
    header: list[str],
    rows: Cells,
    numbers: list[int],
    target: str,
    missing: str | None,
    task: str | None,
    path: str,
) -> Source:
    """The table with the columns and classes of one that a model was trained on; `numbers` are the rows' lines."""
    names = [column.name for column in like.columns]
    encoder = Encoder(like.columns, fill=missing in FILLED)
    try:
        encoder.check(header)
    except BadRow as error:
        raise UserError(f"{path}: {error}.") from error
    columns = {name: [row[header.index(name)].strip() for row in rows] for name in [*names, target]}
    kept = _keep(columns, target, missing, f"data.path={path}")
    lines, inputs = [numbers[i] for i in kept], []
    for i, line in zip(kept, lines, strict=True):
        try:
            inputs.append(encoder.row({name: columns[name][i] for name in names}))
        except BadRow as error:
            raise UserError(f"{path}, row {line}, {error}.") from error
    cells = [columns[target][i] for i in kept]
    if like.classes:
        found, classes, targets = "classification", like.classes, _labels(target, cells, lines, like.classes, path)
    else:
        task = "regression" if like.classes is not None else task
        found, classes, targets, _ = parse_target(target, cells, lines, task, path)
    samples = Arrays(torch.tensor(inputs, dtype=torch.float64), targets)
    return Source({"train": samples}, classes, task=found, columns=like.columns, missing=missing)


def _labels(name: str, cells: list[str], lines: list[int], classes: tuple[str, ...], path: str) -> torch.Tensor:
    """[N], the place of each cell among the classes."""
    code = {text: i for i, text in enumerate(classes)}
    for cell, line in zip(cells, lines, strict=True):
        if cell not in code:
            known = ", ".join(classes[:20])
            raise UserError(f"{path}, row {line}, column {name}: {cell!r} is none of the model's classes: {known}.")
    return torch.tensor([code[cell] for cell in cells])


def _check_choices(task: str | None, missing: str | None) -> None:
    for key, value, choices in (
        ("task", task, ("binary", "multiclass", "regression")),
        ("missing", missing, ("mean", "median", "drop")),
    ):
        if value is not None and value not in choices:
            raise UserError(f"data.{key}={value}: expected {', '.join(choices)}.{did_you_mean(value, choices)}")


def read(path: str, separator: str | None) -> tuple[list[str], Cells]:
    """Header and rows of a delimited file as text.

    Raises:
        UserError: no such file, no rows, duplicate columns, a row of another length.
    """
    header, rows, _ = _numbered(path, separator)
    return header, rows


def _numbered(path: str, separator: str | None) -> tuple[list[str], Cells, list[int]]:
    """As `read`, with the line of each row."""
    lines, rows = [], []
    for line, row in stream(path, separator, f"data.path={path}"):
        if isinstance(row, BadRow):
            raise UserError(f"{path}, row {line}: {row}.")
        lines.append(line)
        rows.append(row)
    if len(rows) < 2:
        raise UserError(f"data.path={path}: {len(rows)} lines; expected a header and a row for each sample.")
    return rows[0], rows[1:], lines[1:]


def _keep(columns: dict[str, list[str]], target: str, missing: str | None, where: str) -> list[int]:
    """Indices of the rows to use.

    Raises:
        UserError: missing values, counted by column, without a choice of what to do.
    """
    counts = {name: sum(map(is_missing, cells)) for name, cells in columns.items()}
    total = len(columns[target])
    if missing == "drop":
        kept = [i for i in range(total) if not any(is_missing(cells[i]) for cells in columns.values())]
        if not kept:
            raise UserError(f"{where}: every row has a missing value. Drop columns instead: data.drop=[...]")
        return kept
    if counts[target]:
        raise UserError(
            f"{where}: {counts[target]} rows have no {target}, the target. Leave them out: data.missing=drop"
        )
    counts = {name: count for name, count in counts.items() if count}
    if counts and missing is None:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UserError(f"{where}: missing values: {told}. Say what to do: data.missing=mean, median or drop.")
    return list(range(total))


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def parse_column(
    name: str, cells: list[str], lines: list[int], path: str, problems: list[str]
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
        problems.append(f"{path}: column {name} is constant and tells nothing. Leave it out: data.drop=[{name}]")
        return Column(name), []
    if good < NUMERIC_SHARE * len(cells):
        return _categories(name, cells, path, problems)
    bad = [i for i, number in enumerate(numbers) if number is None or math.isinf(number)]
    if bad:
        problems.append(_bad_cells(name, bad, cells, lines, path))
        return Column(name), []
    return Column(name), [number for number in numbers if number is not None]


def _bad_cells(name: str, bad: list[int], cells: list[str], lines: list[int], path: str) -> str:
    """The sentence on the cells of a column of numbers that are none."""
    row, cell = lines[bad[0]], cells[bad[0]]
    if len(bad) == 1:
        return f"{path}, row {row}, column {name}: {cell!r} is no finite number."
    return f"{path}, column {name}: {len(bad):,} cells are no finite numbers, the first in row {row}: {cell!r}."


def _categories(name: str, cells: list[str], path: str, problems: list[str]) -> tuple[Column, list[float]]:
    known = sorted({cell for cell in cells if not is_missing(cell)})
    if len(known) > MAX_CATEGORIES or len(known) > max(len(cells) // 2, 2):
        if hidden := disguised(known):
            problems.append(
                f"{path}: column {name} holds {hidden[0]}. {hidden[1]}, or leave it out: data.drop=[{name}]"
            )
            return Column(name), []
        problems.append(
            f"{path}: column {name} has {len(known)} different texts in {len(cells)} rows, like names or numbers "
            f"of things. Leave it out: data.drop=[{name}]"
        )
        return Column(name), []
    code = {text: float(i) for i, text in enumerate(known)}
    return Column(name, categories=tuple(known)), [code.get(cell, math.nan) for cell in cells]


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
        told = _bad_cells(name, bad, cells, lines, path)
        if task is None:
            told = told.rstrip(".") + f", where {len(cells) - len(bad):,} are numbers. Or say data.task=multiclass."
        raise UserError(told)
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
