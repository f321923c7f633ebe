"""Targets of a table in one or several columns: a class, labels, or numbers. Shape letters: N rows, K targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.data.tables.columns import NUMERIC_SHARE, Cells, TargetColumn, parse_target
from trainer.data.tables.numerals import parse_number
from trainer.data.tables.rows import is_missing
from trainer.errors import Problem, UserError, first_few, show

PRESENT = {"1": 1, "true": 1, "yes": 1, "0": 0, "false": 0, "no": 0}
SHOWN = 5  # names in a note
SEVERAL = ("multilabel", "regression")  # tasks with several targets
CHECK = "label range"  # of the doctor


@dataclass(frozen=True)
class Targets:
    """What `data.target`, `data.task` and `data.label_separator` say about the targets of a table.

    Attributes:
        names: the columns to predict.
        task: `binary`, `multiclass`, `multilabel` or `regression`; None to infer it from the values.
        separator: the text between two labels of the only column.
    """

    names: tuple[str, ...]
    task: str | None = None
    separator: str | None = None

    @classmethod
    def of(cls, target: Any, task: str | None, separator: Any) -> Targets:
        """Return the targets for configured values.

        Raises:
            UserError: they are not the name of a column or a list of different names, or do not fit each other.
        """
        listed = list(target) if isinstance(target, (list, tuple)) else [target]
        names = tuple(map(show, listed))
        if not names or len(set(names)) < len(names) or any(isinstance(name, (dict, list, tuple)) for name in listed):
            reason = "expected the name of a column, or several different ones such as [cat,dog]"
            raise UserError(Problem("data.target", reason, given=show(target)))
        if len(names) > 1 and task not in (*SEVERAL, None):
            reason = f"expected {' or '.join(SEVERAL)} for several columns in data.target"
            raise UserError(Problem("data.task", reason, given=task))
        if separator is None:
            return cls(names, task)
        reason = ""
        if not isinstance(separator, str) or not separator:
            reason = "expected the text between two labels, such as ;"
        elif len(names) > 1:
            reason = "it separates the labels in one column, and data.target names several"
        elif task not in ("multilabel", None):
            reason = f"it makes the task multilabel, and data.task={task}"
        if reason:
            raise UserError(Problem("data.label_separator", reason, given=show(separator)))
        return cls(names, "multilabel", separator)

    def lack(self, text: str) -> bool:
        """Return whether the cell of a target has no value; an empty list of labels is one."""
        return is_missing(text) and not (self.separator is not None and text == "")

    def parse(self, columns: Sequence[Cells]) -> TargetColumn:
        """Return the target of a table from its columns, in which no cell may be missing.

        Raises:
            UserError: the cells do not fit the task, or no task.
        """
        if self.separator is not None:
            return self._separated(columns[0], self.separator)
        if len(columns) == 1 and self.task != "multilabel":
            return parse_target(columns[0], self.task)
        if (self.task or _inferred(columns)) == "regression":
            note = _note("numbers", self.names, self.task)
            return TargetColumn("regression", (), _numbers(columns), note, self.names)
        values_NK = _indicators(columns)
        _check_all_vary(columns[0].path, self.names, values_NK)
        return TargetColumn("multilabel", self.names, values_NK, _note("labels", self.names, self.task))

    def of_model(self, columns: Sequence[Cells], classes: tuple[str, ...] | None, task: str) -> TargetColumn:
        """Return the target as a trained model predicts it: classes and labels are the model's, not the file's.

        Args:
            classes: of the model, empty for a regression; None to infer them from the file.
            task: name of the model's task.

        Raises:
            UserError: a cell is none of the classes or labels, or not a number.
        """
        if classes and task == "multilabel" and self.separator is not None:
            return TargetColumn(task, classes, _encoded(columns[0], classes, self.separator), "")
        if classes and task == "multilabel":
            return TargetColumn(task, self.names, _indicators(columns), "")
        if classes and len(columns) == 1:
            return TargetColumn("classification", classes, _labels(columns[0], classes), "")
        return Targets(self.names, self.task if classes is None else "regression").parse(columns)

    def _separated(self, cells: Cells, separator: str) -> TargetColumn:
        """Return the labels of one column."""
        labels = tuple(sorted({label for text in cells.texts for label in _split(text, separator)}))
        if not labels:
            reason = f"no row of {cells.path} has a label"
            raise UserError(Problem("data.target", reason, given=cells.name, check=CHECK))
        values_NK = _encoded(cells, labels, separator)
        _check_all_vary(cells.path, labels, values_NK)
        return TargetColumn("multilabel", labels, values_NK, _note("labels", labels, "separated"))


def _inferred(columns: Sequence[Cells]) -> str:
    """Return the task of several columns: labels if every cell says yes or no, else numbers."""
    if all(_indicator(text) is not None for cells in columns for text in cells.texts):
        return "multilabel"
    for cells in columns:
        if sum(parse_number(text) is not None for text in cells.texts) < NUMERIC_SHARE * len(cells.texts):
            reason = f"column {cells.name} holds neither numbers nor labels (0 or 1, true or false, yes or no)"
            advice = "Several targets are labels, or numbers; a column of classes is predicted by itself."
            given = show([each.name for each in columns])
            raise UserError(Problem("data.target", reason, given=given, advice=advice, check=CHECK))
    return "regression"


def _numbers(columns: Sequence[Cells]) -> Tensor:
    """Return the values of columns of numbers, float64 [N, K]."""
    return torch.stack([parse_target(cells, "regression").values for cells in columns], dim=1)


def _indicators(columns: Sequence[Cells]) -> Tensor:
    """Return whether each row has each label, int64 [N, K]."""
    rows = []
    for cells in columns:
        values = [_indicator(text) for text in cells.texts]
        if None in values:
            bad = values.index(None)
            reason = f"{cells.texts[bad]!r} does not say whether the row has the label; expected {', '.join(PRESENT)}"
            key = f"row {cells.lines[bad]}, column {cells.name}"
            raise UserError(Problem(key, reason, source=cells.path, check=CHECK))
        rows.append(values)
    return torch.tensor(rows, dtype=torch.int64).T.contiguous()


def _indicator(text: str) -> int | None:
    number = parse_number(text)
    return PRESENT.get(text.lower() if number is None else f"{number:g}")


def _split(text: str, separator: str) -> list[str]:
    """Return the labels in a cell, without surrounding blanks."""
    return [label for part in text.split(separator) if (label := part.strip())]


def _encoded(cells: Cells, labels: Sequence[str], separator: str) -> Tensor:
    """Return whether each row has each of these labels, int64 [N, K]."""
    code = {label: i for i, label in enumerate(labels)}
    values_NK = torch.zeros(len(cells.texts), len(labels), dtype=torch.int64)
    for row, (text, line) in enumerate(zip(cells.texts, cells.lines, strict=True)):
        for label in _split(text, separator):
            if label not in code:
                reason = f"{label!r} is none of the model's labels: {', '.join(labels[:20])}"
                raise UserError(Problem(f"row {line}, column {cells.name}", reason, source=cells.path))
            values_NK[row, code[label]] = 1
    return values_NK


def _labels(cells: Cells, classes: tuple[str, ...]) -> Tensor:
    """Return the class int64 [N] of each cell."""
    code = {text: i for i, text in enumerate(classes)}
    for text, line in zip(cells.texts, cells.lines, strict=True):
        if text not in code:
            reason = f"{text!r} is none of the model's classes: {', '.join(classes[:20])}"
            raise UserError(Problem(f"row {line}, column {cells.name}", reason, source=cells.path))
    return torch.tensor([code[text] for text in cells.texts])


def _check_all_vary(path: str, labels: Sequence[str], values_NK: Tensor) -> None:
    """Refuse a label that every row has, or none."""
    for label, count in zip(labels, values_NK.sum(0).tolist(), strict=True):
        if count in (0, len(values_NK)):
            reason = f"{'every' if count else 'no'} row of {path} has the label {label}; there is nothing to learn"
            raise UserError(Problem("data.target", reason, given=label, advice="Leave it out.", check=CHECK))


def _note(what: str, names: Sequence[str], configured: str | None) -> str:
    return f"predicts {len(names)} {what}: {first_few(names, SHOWN)}{'' if configured else ' (data.task overrides it)'}"
