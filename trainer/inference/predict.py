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
from pathlib import Path
from typing import IO, Any

import torch

from trainer.data.images.pool import Progress
from trainer.data.tables.formulas import escaped
from trainer.data.tasks import Classification
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
        classes: the most likely classes with their probabilities, most likely first.
        value: the value of a regression.
        error: why there is no prediction.
    """

    input: str
    classes: tuple[tuple[str, float], ...] = ()
    value: float | None = None
    error: str | None = None


Write = Callable[[Prediction], None]


def predict(
    predictor: Predictor, samples: Iterable[Sample], count: int = 3, progress: Progress | None = None
) -> Iterator[Prediction]:
    """Predict samples in order, a batch at a time: the `count` most likely classes of each.

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
    answers = predictor.probabilities(outputs_NC)  # [N, classes], or the values [N] of a regression
    usable = (finite(outputs_NC) & finite(answers)).tolist()
    labels = task.predictions(outputs_NC).tolist() if isinstance(task, Classification) else []
    for number, name in enumerate(names):
        if not usable[number]:
            yield Prediction(name, error=NOT_FINITE)
        elif not isinstance(task, Classification):
            yield Prediction(name, value=answers[number].item())
        else:
            likeliest = top(answers[number], labels[number], count)
            yield Prediction(name, tuple((task.classes[i], answers[number, i].item()) for i in likeliest))


@contextlib.contextmanager
def writer(out: Path | None, predictor: Predictor, count: int) -> Iterator[Write]:
    """Open a writer of predictions of `count` classes each.

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
            yield _csv_writer(file, min(count, len(predictor.classes)))
        else:
            with _json_writer(file, classification=bool(predictor.classes)) as write:
                yield write


def _print(prediction: Prediction) -> None:
    """Print a line; control characters in names are replaced."""
    if prediction.error is not None:
        return
    if prediction.value is not None:
        answer = f"{prediction.value:.6g}"
    else:
        answer = ", ".join(f"{name} {probability:.2%}" for name, probability in prediction.classes)
    print(printable(f"{prediction.input}: {answer}"))
    sys.stdout.flush()


def _csv_writer(file: IO[str], count: int) -> Write:
    """Write the header of `count` classes with their probabilities, or of a value if `count` is 0."""
    rows = csv.writer(file, lineterminator="\n")
    names = [f"{name}{'' if i == 1 else f'_{i}'}" for i in range(1, count + 1) for name in ("class", "probability")]
    rows.writerow(["input", *(names or ["value"]), "error"])

    def write(prediction: Prediction) -> None:
        cells: list[Any] = [cell for pair in prediction.classes for cell in pair]
        cells = cells + [None] * (2 * count - len(cells)) if count else [prediction.value]
        rows.writerow(escaped([prediction.input, *cells, prediction.error]))

    return write


@contextlib.contextmanager
def _json_writer(file: IO[str], *, classification: bool) -> Iterator[Write]:
    """Write a list of predictions, one entry at a time."""
    before = "[\n"

    def write(prediction: Prediction) -> None:
        nonlocal before
        classes = [{"class": name, "probability": probability} for name, probability in prediction.classes]
        answer = {"top": classes or None} if classification else {"value": prediction.value}
        entry = {"input": prediction.input, **answer, "error": prediction.error}
        file.write(before + json.dumps(entry, ensure_ascii=False, allow_nan=False))
        before = ",\n"

    yield write
    file.write("\n]\n" if before == ",\n" else "[]\n")
