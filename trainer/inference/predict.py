"""`trainer predict`: from inputs to predictions on the terminal or in a file, a batch at a time."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import torch

from trainer.data.images.pool import Progress
from trainer.data.tasks import Classification
from trainer.errors import UserError, printable
from trainer.files import replacing
from trainer.inference.inputs import Sample, chunks, samples
from trainer.inference.predictor import NOT_FINITE, Predictor, finite, top

FORMATS = (".csv", ".json")
Record = dict[str, Any]
Tell = Callable[[str], None]


def predict(
    predictor: Predictor,
    words: Iterable[str],
    *,
    lines: Iterable[str] = (),
    count: int = 3,
    out: Path | None = None,
    tell: Tell,
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Predicts all that the words stand for; returns how many inputs there were, and how many could not be used.

    Args:
        lines: what `-` stands for.
        count: likeliest classes of each input.
        out: a file, .csv or .json, that is replaced once all is done; None prints.
        tell: is told of each input that cannot be used.
        progress: is told how many inputs are done; may raise to end it.

    Raises:
        UserError: the file cannot be one of predictions, or the model takes no files.
        RunFailed: the file cannot be written.
    """
    if out is not None and (out.suffix.lower() not in FORMATS or not out.parent.is_dir()):
        raise UserError(f"--out {out}: expected a file that ends in .csv or .json, in a folder that is there.")
    found = samples(predictor, words, lines)
    done = bad = 0
    with ExitStack() as stack:
        write = _writer(stack, out, predictor, count)
        for chunk in chunks(found, predictor.batch_size):
            for record in _records(predictor, chunk, count):
                if record["error"] is not None:
                    bad += 1
                    tell(f"{record['input']}: {record['error']}.")
                write(record)
            done += len(chunk)
            if progress:
                progress("predicting", done, 0)
    return done, bad


def _records(predictor: Predictor, chunk: list[Sample], count: int) -> list[Record]:
    good = [sample.raw for sample in chunk if sample.raw is not None]
    task, found = predictor.task, iter([])  # type: ignore[var-annotated]
    key = "top" if isinstance(task, Classification) else "value"
    if good:
        outputs_NC = predictor.outputs(torch.stack(good))
        answers = predictor.probabilities(outputs_NC)
        usable = (finite(outputs_NC) & finite(answers)).tolist()
        labels = task.predictions(outputs_NC) if isinstance(task, Classification) else answers
        found = iter(zip(usable, answers, labels.tolist(), strict=True))
    records = []
    for sample in chunk:
        record: Record = {"input": sample.name, key: None, "error": sample.problem}
        if sample.raw is not None:
            fine, chances_C, answer = next(found)
            if not fine:
                record["error"] = NOT_FINITE
            elif isinstance(task, Classification):
                likeliest = top(chances_C, answer, count)
                record[key] = [{"class": task.classes[i], "probability": chances_C[i].item()} for i in likeliest]
            else:
                record[key] = answer
        records.append(record)
    return records


def _writer(stack: ExitStack, out: Path | None, predictor: Predictor, count: int) -> Callable[[Record], None]:
    if out is None:
        return _Printed()
    file = stack.enter_context(replacing(out))
    classes = len(predictor.classes)
    if out.suffix.lower() == ".csv":
        return _Csv(file, min(count, classes))
    written = _Json(file)
    stack.callback(written.end)
    return written


class _Printed:
    """A line for each input on stdout; what a terminal would obey is not printed as it is."""

    def __call__(self, record: Record) -> None:
        if record["error"] is None:
            if "value" in record:
                told = f"{record['value']:.6g}"
            else:
                told = ", ".join(f"{entry['class']} {entry['probability']:.2%}" for entry in record["top"])
            print(printable(f"{record['input']}: {told}"))
            sys.stdout.flush()


class _Csv:
    """A row for each input; classes with their probabilities, the likeliest first, or a value; and an error."""

    def __init__(self, file: IO[str], count: int) -> None:
        self.count = count
        self.writer = csv.writer(file, lineterminator="\n")
        names = [f"{name}{'' if i == 1 else f'_{i}'}" for i in range(1, count + 1) for name in ("class", "probability")]
        self.writer.writerow(["input", *(names or ["value"]), "error"])

    def __call__(self, record: Record) -> None:
        cells = [record["value"]] if "value" in record else [x for e in record["top"] or () for x in e.values()]
        cells += [None] * (2 * self.count - len(cells))
        self.writer.writerow([record["input"], *cells, record["error"]])


class _Json:
    """A list of records, written one by one."""

    def __init__(self, file: IO[str]) -> None:
        self.file, self.begun = file, False

    def __call__(self, record: Record) -> None:
        self.file.write(",\n" if self.begun else "[\n")
        self.file.write(json.dumps(record, ensure_ascii=False, allow_nan=False))
        self.begun = True

    def end(self) -> None:
        """Closes the list."""
        self.file.write("\n]\n" if self.begun else "[]\n")
