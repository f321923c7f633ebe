"""What `trainer explain` prints and writes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.data.images.pool import Progress
from trainer.data.multilabel import MultiLabel
from trainer.data.regression import Regression
from trainer.data.tasks import Task
from trainer.errors import print_problems, printable
from trainer.files import resolve
from trainer.inference.attribution import Attributor
from trainer.inference.explain import Explanation, SplitRequest, explain_inputs, explain_split, output_number
from trainer.inference.importance import column_names
from trainer.inference.inputs import samples
from trainer.inference.predictor import Predictor
from trainer.records.contents import make_folder
from trainer.records.explained import FOLDER, ExplainedMistakes, Importance, write_explained
from trainer.records.table import write_csv
from trainer.signals import Signals

STEM = 50  # characters of an input's name that its picture keeps: 200 bytes of UTF-8 at most
STRONGEST = 3  # columns in a printed line


@dataclass(frozen=True)
class ExplainRequest:
    """Options of `trainer explain`.

    Attributes:
        inputs: files, folders and patterns; without any, a split is explained.
        words: overrides `key=value` of the data.
        method: grad_cam, integrated_gradients, or None for the one that fits the model.
        target: class, label or target to explain; None for the predicted one.
        split: train, valid or test; None for the test split.
        repeats, seed: of the permutations of a table's columns.
        out: folder to write to; None for the folder `explain` beside the checkpoint.
    """

    inputs: Sequence[str]
    words: Sequence[str]
    method: str | None = None
    target: str | None = None
    split: str | None = None
    repeats: int = 10
    seed: int = 0
    out: Path | None = None


def explain(predictor: Predictor, request: ExplainRequest, signals: Signals, progress: Progress) -> int:
    """Explain inputs or a split, print and write what was found, and return the exit code.

    Raises:
        UserError: the data or the request cannot be used.
        RunFailed: a file could not be written.
        Interrupted: a signal arrived.
    """
    if not request.inputs:
        content = explain_split(
            predictor,
            SplitRequest(request.words, request.split, request.repeats, request.seed, request.method),
            signals,
            progress,
        )
        path = _write_split(_output_folder(predictor, request.out), content)
        print(printable(f"written    {path}"))
        return 0
    attributor = Attributor(predictor, request.method)
    output = output_number(predictor, request.target)
    inputs = samples(predictor, request.inputs, sys.stdin)
    folder = _output_folder(predictor, request.out)
    if attributor.note:
        print(f"method     {attributor.method}: {attributor.note}")
    explanations = explain_inputs(attributor, inputs, output, progress)
    path, errors = _write_inputs(folder, predictor, attributor.method, explanations)
    print(printable(f"written    {path}"))
    return 1 if errors else 0


def _output_folder(predictor: Predictor, out: Path | None) -> Path:
    """Create the folder to write to, unless it exists, and return its path."""
    path = out or predictor.checkpoint.folder / FOLDER
    path = resolve(path.parent) / path.name
    make_folder(path)
    return path


def _write_split(folder: Path, content: Importance | ExplainedMistakes) -> Path:
    """Print what was found about a split, and write a picture and a JSON file, whose path is returned."""
    from trainer.report import explanation

    if isinstance(content, Importance):
        explanation.show_columns(content)
        explanation.draw_columns(folder / "columns.png", content)
    else:
        print(f"{content.split:<10} {len(content.mistakes)} most confident mistakes by {content.method}")
        explanation.draw_mistakes(folder / "mistakes.png", content)
    return write_explained(folder, content)


def _write_inputs(
    folder: Path, predictor: Predictor, method: str, explanations: Iterable[Explanation]
) -> tuple[Path, int]:
    """Print a line for each input, draw the images, and write a CSV file; return its path and the number of errors."""
    what = _about(predictor.task)
    errors = 0

    def rows() -> Iterator[list[Any]]:
        nonlocal errors
        for number, each in enumerate(explanations, 1):
            if each.error is not None:
                errors += 1
                print_problems([f"{each.input}: {each.error}."], "trainer explain")
                yield [each.input, *[None] * (len(header) - 2), each.error]
                continue
            assert each.parts is not None
            answer = [each.about, each.value][-len(what) :]
            if each.image is not None:
                yield [each.input, *answer, method, _draw(folder, number, each, method), None]
            else:
                print(printable(f"{each.input}: {each.answer}: {_strongest(predictor, each.parts.tolist())}"))
                yield [each.input, *answer, *each.parts.tolist(), None]

    if predictor.takes_images:
        path, columns = folder / "images.csv", ["method", "picture"]
    else:
        path, columns = folder / "rows.csv", [f"part_{name}" for name in column_names(predictor)]
    header = ["input", *what, *columns, "error"]
    write_csv(path, header, rows())
    return path, errors


def _about(task: Task) -> list[str]:
    """Return the columns of what was explained and its value."""
    if isinstance(task, Regression):
        return ["target", "value"] if task.several else ["value"]
    return ["label" if isinstance(task, MultiLabel) else "class", "probability"]


def _strongest(predictor: Predictor, parts: list[float]) -> str:
    """Name the columns that matter most."""
    pairs = sorted(zip(column_names(predictor), parts, strict=True), key=lambda pair: -abs(pair[1]))
    return ", ".join(f"{name} {part:+.3g}" for name, part in pairs[:STRONGEST])


def _draw(folder: Path, number: int, each: Explanation, method: str) -> str:
    """Draw the picture of an image, print its path, and return its name."""
    from trainer.report import explanation

    assert each.image is not None
    assert each.parts is not None
    name = f"{number}-{printable(Path(each.input).stem)[:STEM]}.png"
    title = f"{Path(each.input).name}: {each.answer}"
    explanation.draw_pixels(folder / name, (each.image, each.parts), title, method)
    print(printable(f"{each.input}: {each.answer}, {folder / name}"))
    return name
