"""Permutation importance of a table's columns.

Shape letters: N rows, K columns, C outputs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from trainer.data.images.pool import Progress
from trainer.data.regression import Regression
from trainer.errors import Problem, UserError
from trainer.inference.predictor import Predictor
from trainer.records.explained import ColumnImportance


def column_names(predictor: Predictor) -> tuple[str, ...]:
    """Return the names of the columns; those of rows without names are counted from 0."""
    return predictor.columns or tuple(map(str, range(predictor.prepare.shape[0])))


def metric_of(predictor: Predictor) -> str:
    """Return the metric that permutations make worse: the share of correct answers, or R2."""
    return predictor.task.counted or "r2"


def score(predictor: Predictor, raw_NK: Tensor, targets_N: Tensor) -> float:
    """Return the metric on raw rows.

    Raises:
        UserError: the targets do not vary, and R2 is not defined.
    """
    task, name = predictor.task, metric_of(predictor)
    plain = task if isinstance(task, Regression) else replace(task, monitored=())
    value = plain.metrics(predictor.outputs(raw_NK), targets_N)[name]
    if value is None:
        raise UserError(Problem(predictor.checkpoint.name, f"{name} is not defined, because all targets are equal"))
    return value


def permutation_importance(
    predictor: Predictor, rows: tuple[Tensor, Tensor], repeats: int, seed: int, progress: Progress
) -> list[ColumnImportance]:
    """Return how much the metric falls when one column is permuted, for each column (Breiman, 2001).

    The permutations are those of `sklearn.inspection.permutation_importance` with `random_state=seed`.

    Args:
        rows: raw rows float [N, K], and their targets.
        repeats: number of permutations of each column.
        progress: called after each column; may raise to stop.

    Raises:
        UserError: the targets of a regression do not vary.
    """
    raw_NK, targets_N = rows
    names = column_names(predictor)
    shuffles = _permutations(len(raw_NK), repeats, seed)
    whole = score(predictor, raw_NK, targets_N)
    importances = []
    for number, name in enumerate(names):
        falls = []
        for shuffle in shuffles:
            permuted = raw_NK.clone()
            permuted[:, number] = raw_NK[shuffle, number]
            falls.append(whole - score(predictor, permuted, targets_N))
        importances.append(ColumnImportance(name, float(np.mean(falls)), float(np.std(falls))))
        progress("permuting", number + 1, len(names))
    return importances


def _permutations(samples: int, repeats: int, seed: int) -> list[Tensor]:
    """Return the permutations of scikit-learn, which permutes a column that was permuted before."""
    stream = np.random.RandomState(np.random.RandomState(seed).randint(np.iinfo(np.int32).max + 1))
    order, total, permutations = np.arange(samples), np.arange(samples), []
    for _ in range(repeats):
        stream.shuffle(order)
        total = total[order]
        permutations.append(torch.from_numpy(total.copy()))
    return permutations
