"""details.json and evaluation-<n>.json: content of a run's page beyond results.json. Does not import torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from trainer.data.metrics import SplitReport
from trainer.errors import Problem, UserError
from trainer.files import read_text, write_atomically
from trainer.records.contents import exists, names
from trainer.records.schema import dump, parse_json, read_json

FILE = "details.json"
LARGEST_BYTES = 20_000_000
MOST_EVALUATIONS = 1000
FORMAT = 1  # of evaluation-<n>.json
OPTIONAL = {"optional": True}  # left out of the file if it is None


@dataclass(frozen=True)
class Bin:
    """Samples whose confidence lies between two bounds; the means are None in an empty bin."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Reliability:
    """Comparison of confidence in the predicted class with accuracy.

    Attributes:
        ece: expected calibration error: the mean distance of confidence and accuracy over bins of equal width, weighted
            by samples (Guo et al. 2017, https://arxiv.org/abs/1706.04599).
        nll: mean negative log-likelihood, in nats.
    """

    ece: float
    nll: float
    bins: list[Bin]


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction on the test split: PNG in base64, class names, and the probability of the wrong class."""

    image: str
    predicted: str
    true: str
    chance: float


@dataclass(frozen=True)
class Details:
    """Content of details.json.

    Attributes:
        mistakes: the most confident ones; None unless samples are images.
        predictions: pairs of true and predicted value of a regression.
        targets: the same by target, of a regression on several.
    """

    calibration: Reliability | None = field(default=None, metadata=OPTIONAL)
    mistakes: list[Mistake] | None = field(default=None, metadata=OPTIONAL)
    predictions: list[list[float]] | None = field(default=None, metadata=OPTIONAL)
    targets: dict[str, list[list[float]]] | None = field(default=None, metadata=OPTIONAL)


def write_details(folder: Path, details: Details) -> None:
    """Write details.json into a run folder.

    Raises:
        RunFailed: the file could not be written.
    """
    write_atomically(folder / FILE, dump(details, indent=None).encode())


def read_details(folder: Path) -> Details:
    """Return the content of a run folder's details.json; empty if there is no such file.

    Raises:
        UserError: the file cannot be read, or has unexpected content.
    """
    path = folder / FILE
    return read_json(path, LARGEST_BYTES, Details) if exists(path) else Details()


@dataclass(frozen=True)
class ScaledReliability(Reliability):
    """Reliability of probabilities at a temperature."""

    temperature: float


@dataclass(frozen=True)
class CalibrationReport:
    """Reliability of an evaluation's probabilities: as they are, and at the stored temperature if it was used."""

    uncalibrated: Reliability
    calibrated: ScaledReliability | None = None


@dataclass(frozen=True)
class EvaluationRecord:
    """Content of evaluation-<n>.json: the evaluation of one run or of an ensemble.

    Attributes:
        split: train, valid or test; `part` in the file.
        samples: number of samples in it.
        run: path of the checkpoint, or of each checkpoint of an ensemble.
        epoch, step: of the checkpoint.
        data: `_target_`, `root` and `path` of the data.
        own_data: whether it is the data that the run was trained on.
        overrides: the overrides as typed.
        nll: mean negative log-likelihood at the stored temperature if it was used; None for a regression.
        mse: mean squared error in the target's unit; None for classes.
        calibration: None without classes of which a sample has one.
    """

    split: str = field(metadata={"json": "part"})
    samples: int
    test: SplitReport
    run: str | list[str] = ""
    epoch: int | None = field(default=None, metadata=OPTIONAL)
    step: int | None = field(default=None, metadata=OPTIONAL)
    data: dict[str, str | None] = field(default_factory=dict)
    own_data: bool = True
    overrides: list[str] = field(default_factory=list)
    nll: float | None = field(default=None, metadata=OPTIONAL)
    mse: float | None = field(default=None, metadata=OPTIONAL)
    calibration: CalibrationReport | None = None
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


def read_evaluations(folder: Path) -> dict[str, EvaluationRecord]:
    """Return the evaluations in a run folder as {file name: content}, in the order of their numbers.

    An empty file belongs to an evaluation that is still running or was killed; it is left out.

    Raises:
        UserError: a file cannot be read or has unexpected content, or there are too many.
    """
    matches = (re.fullmatch(r"evaluation-([1-9][0-9]{0,5})\.json", name) for name in names(folder))
    paths = {int(match[1]): folder / match[0] for match in matches if match}
    if len(paths) > MOST_EVALUATIONS:
        reason = f"{len(paths):,} evaluations are more than the {MOST_EVALUATIONS:,} shown"
        raise UserError(Problem(str(folder), reason))
    texts = {path: read_text(path, LARGEST_BYTES) for _, path in sorted(paths.items())}
    return {path.name: parse_json(text, path, EvaluationRecord) for path, text in texts.items() if text}
