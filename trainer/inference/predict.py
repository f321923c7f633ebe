"""`trainer predict`: predict inputs batch by batch, and print or write the predictions."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import compress
from pathlib import Path
from typing import IO, Any

import torch

from trainer.data.images.pool import Progress
from trainer.data.multilabel import LABEL_SEPARATOR, MultiLabel
from trainer.data.regression import Regression
from trainer.data.tables.formulas import escaped
from trainer.data.tasks import Task
from trainer.errors import Problem, UserError, printable
from trainer.files import replacing, resolve
from trainer.inference.inputs import Sample, chunks
from trainer.inference.predictor import NOT_FINITE, Predictor, finite, top

FORMATS = (".csv", ".json")


@dataclass(frozen=True)
class Prediction:
    """The prediction for one input; an input that cannot be used has an error instead.

    Attributes:
        input: the file; for a row of a table, with its line.
        classes: the most likely classes with their probabilities, most likely first; all labels in the model's order.
        value: the value of a regression.
        values: targets and their values, of a regression on several.
        labels: the predicted labels of a multi-label task.
        error: why there is no prediction.
    """

    input: str
    classes: tuple[tuple[str, float], ...] = ()
    value: float | None = None
    values: tuple[tuple[str, float], ...] = ()
    labels: tuple[str, ...] | None = None
    error: str | None = None


Write = Callable[[Prediction], None]


def predict(
    predictor: Predictor, samples: Iterable[Sample], count: int = 3, progress: Progress | None = None
) -> Iterator[Prediction]:
    """Predict samples in order, a batch at a time: the `count` most likely classes of each, or all labels or values.

    Samples that cannot be read are passed on. `progress` is called with the number of finished inputs; it may raise to
    stop.
    """
    finished = 0
    for chunk in chunks(samples, predictor.batch_size):
        yield from _predict_chunk(predictor, chunk, count)
        finished += len(chunk)
        if progress:
            progress("predicting", finished, 0)


def _predict_chunk(predictor: Predictor, chunk: list[Sample], count: int) -> Iterator[Prediction]:
    readable = [sample.raw for sample in chunk if sample.raw is not None]
    answers: Iterator[Prediction] = iter(())
    if readable:
        names = [sample.name for sample in chunk if sample.raw is not None]
        answers = _answers(predictor, names, torch.stack(readable), count)
    for sample in chunk:
        yield Prediction(sample.name, error=sample.problem) if sample.raw is None else next(answers)


def _answers(predictor: Predictor, names: list[str], raw: torch.Tensor, count: int) -> Iterator[Prediction]:
    """Predict raw samples [N, ...] in one batch."""
    task, outputs_NC = predictor.task, predictor.outputs(raw)
    answers = predictor.probabilities(outputs_NC)  # [N, classes], or the values [N] or [N, K] of a regression
    usable = (finite(outputs_NC) & finite(answers)).tolist()
    predicted = [] if isinstance(task, Regression) else task.predictions(outputs_NC).tolist()
    for number, name in enumerate(names):
        if not usable[number]:
            yield Prediction(name, error=NOT_FINITE)
        elif isinstance(task, Regression) and task.several:
            yield Prediction(name, values=tuple(zip(task.targets, answers[number].tolist(), strict=True)))
        elif isinstance(task, Regression):
            yield Prediction(name, value=answers[number].item())
        elif isinstance(task, MultiLabel):
            classes = tuple(zip(task.classes, answers[number].tolist(), strict=True))
            yield Prediction(name, classes, labels=tuple(compress(task.classes, predicted[number])))
        else:
            likeliest = top(answers[number], predicted[number], count)
            yield Prediction(name, tuple((task.classes[i], answers[number, i].item()) for i in likeliest))


@contextlib.contextmanager
def writer(out: Path | None, predictor: Predictor, count: int) -> Iterator[Write]:
    """Open a writer of predictions, of `count` classes each if a sample has one class.

    It writes to the .csv or .json file `out`, which is replaced at the end; without one it prints.

    Raises:
        UserError: the file has another suffix, or its folder does not exist.
        RunFailed: the file cannot be written.
    """
    if out is None:
        yield _print
        return
    out = resolve(out.parent) / out.name
    if out.suffix.lower() not in FORMATS or not os.path.isdir(out.parent):
        reason = "expected a file that ends in .csv or .json, in an existing folder"
        raise UserError(Problem(f"--out {out}", reason))
    with replacing(out) as binary:
        file = TextIOWrapper(binary, "utf-8", "replace", newline="", write_through=True)
        if out.suffix.lower() == ".csv":
            yield _csv_writer(file, predictor.task, count)
        else:
            with _json_writer(file, predictor.task) as write:
                yield write


def _print(prediction: Prediction) -> None:
    """Print a line; control characters in names are replaced."""
    if prediction.error is not None:
        return
    if prediction.value is not None:
        answer = f"{prediction.value:.6g}"
    elif prediction.values:
        answer = ", ".join(f"{name} {value:.6g}" for name, value in prediction.values)
    elif prediction.labels is not None:
        chosen = [(name, share) for name, share in prediction.classes if name in prediction.labels]
        name, share = max(prediction.classes, key=lambda pair: pair[1])
        answer = _shares(chosen) or f"no label; most likely {_shares([(name, share)])}"
    else:
        answer = _shares(prediction.classes)
    print(printable(f"{prediction.input}: {answer}"))
    sys.stdout.flush()


def _shares(classes: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {probability:.2%}" for name, probability in classes)


def _csv_writer(file: IO[str], task: Task, count: int) -> Write:
    """Write the header: the columns of `count` classes, of all labels, or of the values."""
    rows = csv.writer(file, lineterminator="\n")
    if isinstance(task, MultiLabel):
        names = ["labels", *(f"probability_{label}" for label in task.classes)]
    elif isinstance(task, Regression):
        names = [f"value_{target}" for target in task.targets] or ["value"]
    else:
        ranks = range(1, min(count, len(task.classes)) + 1)
        names = [f"{name}{'' if i == 1 else f'_{i}'}" for i in ranks for name in ("class", "probability")]
    rows.writerow(["input", *names, "error"])

    def write(prediction: Prediction) -> None:
        cells: list[Any] = [cell for pair in prediction.classes for cell in pair]
        if prediction.labels is not None:
            cells = [LABEL_SEPARATOR.join(prediction.labels), *(probability for _, probability in prediction.classes)]
        elif isinstance(task, Regression):
            cells = [value for _, value in prediction.values] if task.several else [prediction.value]
        cells += [None] * (len(names) - len(cells))
        rows.writerow(escaped([prediction.input, *cells, prediction.error]))

    return write


@contextlib.contextmanager
def _json_writer(file: IO[str], task: Task) -> Iterator[Write]:
    """Write a list of predictions, one entry at a time."""
    before = "[\n"

    def write(prediction: Prediction) -> None:
        nonlocal before
        entry = {"input": prediction.input, **_json_answer(prediction, task), "error": prediction.error}
        file.write(before + json.dumps(entry, ensure_ascii=False, allow_nan=False))
        before = ",\n"

    yield write
    file.write("\n]\n" if before == ",\n" else "[]\n")


def _json_answer(prediction: Prediction, task: Task) -> dict[str, object]:
    """Return the keys of a prediction; their values are null if it has an error."""
    if isinstance(task, MultiLabel):
        labels = None if prediction.labels is None else list(prediction.labels)
        return {"labels": labels, "probabilities": dict(prediction.classes) or None}
    if isinstance(task, Regression):
        return {"values": dict(prediction.values) or None} if task.several else {"value": prediction.value}
    classes = [{"class": name, "probability": probability} for name, probability in prediction.classes]
    return {"top": classes or None}
