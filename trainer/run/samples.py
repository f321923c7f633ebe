"""The samples of a run by name: their splits, and the predictions for the test. Shape letters: N samples, C classes."""

from __future__ import annotations

from itertools import compress
from pathlib import Path

import torch
from torch import Tensor

from trainer.data.dataset import Data, Split
from trainer.data.multilabel import LABEL_SEPARATOR, MultiLabel
from trainer.data.regression import Regression
from trainer.data.tables.formulas import escaped
from trainer.data.tasks import Classification, Task
from trainer.records import samples as records
from trainer.records.samples import SampleNames

MOST_PROBABILITIES = 100  # classes; of more, only the probability of the prediction is written


def write_split(folder: Path, data: Data) -> None:
    """Write split.csv into a run folder, the samples in the order of their rows.

    Raises:
        RunFailed: the file could not be written.
    """
    splits = {id(split): (name, split) for name, split in reversed(data.splits.items())}  # one may be used for two
    rows_N = torch.cat([split.rows for _, split in splits.values()])
    order_N = rows_N.argsort()
    names = [name for name, split in splits.values() for _ in range(len(split))]
    files = [file for _, split in splits.values() for file in split.files or ()]
    order = order_N.tolist()
    sorted_files = [files[i] for i in order] if files else None
    records.write_split(folder, SampleNames(rows_N[order_N].tolist(), sorted_files), [names[i] for i in order])


def write_predictions(folder: Path, task: Task, split: Split, outputs_NC: Tensor) -> None:
    """Write predictions.csv of the test split into a run folder: truth, prediction, and probabilities of classes.

    Raises:
        RunFailed: the file could not be written.
    """
    names = SampleNames(split.rows.tolist(), split.files)
    if isinstance(task, Classification):
        columns = _classes(task, split.targets, outputs_NC)
    elif isinstance(task, MultiLabel):
        columns = _labels(task, split.targets, outputs_NC)
    else:
        columns = _numbers(task, split.targets, outputs_NC)
    records.write_predictions(folder, names, columns)


def _classes(task: Classification, targets_N: Tensor, outputs_NC: Tensor) -> dict[str, list[str]]:
    """Return the columns of a classification as text; text that begins like a formula is escaped."""
    predicted_N, probabilities_NC = task.predictions(outputs_NC), task.probabilities(outputs_NC)
    classes = escaped(task.classes)
    columns = {"truth": targets_N, "prediction": predicted_N}
    answers = {name: [classes[label] for label in labels.tolist()] for name, labels in columns.items()}
    if len(classes) > MOST_PROBABILITIES:
        return {**answers, "probability": _texts(probabilities_NC.gather(1, predicted_N[:, None])[:, 0])}
    shares = zip(task.classes, probabilities_NC.T, strict=True)
    return {**answers, **{f"probability_{name}": _texts(column) for name, column in shares}}


def _labels(task: MultiLabel, targets_NC: Tensor, outputs_NC: Tensor) -> dict[str, list[str]]:
    """Return the columns of a multi-label task: true and predicted labels, and the probability of each label."""
    answers = {"truth": targets_NC.bool(), "prediction": task.predictions(outputs_NC)}
    named = {
        column: escaped([LABEL_SEPARATOR.join(compress(task.classes, row)) for row in rows_NC.tolist()])
        for column, rows_NC in answers.items()
    }
    shares = zip(task.classes, task.probabilities(outputs_NC).T, strict=True)
    return {**named, **{f"probability_{name}": _texts(column) for name, column in shares}}


def _numbers(task: Regression, targets: Tensor, outputs_NC: Tensor) -> dict[str, list[str]]:
    """Return the columns of a regression: true and predicted values, of each target."""
    columns: dict[str, list[str]] = {}
    values_NK, targets_NK = task.estimates(outputs_NC), targets.view(len(targets), -1)
    for place, name in enumerate([f"_{target}" for target in task.targets] or [""]):
        columns |= {f"truth{name}": _texts(targets_NK[:, place]), f"prediction{name}": _texts(values_NK[:, place])}
    return columns


def _texts(numbers_N: Tensor) -> list[str]:
    """Return numbers [N] as text: six digits of a probability, all that matter of float64."""
    return list(map("{:.6g}".format if numbers_N.dtype != torch.float64 else repr, numbers_N.tolist()))
