"""How far probabilities can be believed: calibration error, a temperature that mends it, and the file it is kept in."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer.data.tasks import Classification
from trainer.errors import Problem, UserError
from trainer.files import newer_format, write_atomically
from trainer.records.details import Bin, Reliability

FILE = "calibration.json"
FORMAT = 1
BINS = 15
LOWEST, HIGHEST = 0.01, 100.0  # of a temperature
MAX_BYTES = 65_536
STEPS = 60  # of the search, each of which takes a third off the interval


@dataclass(frozen=True)
class Calibration:
    """A temperature that logits are divided by before they become probabilities; the likeliest class stays the same.

    Attributes:
        weights: digest of the weights that it was fitted for.
        samples: of the validation part, to which it was fitted.
        before, after: `nll` and `ece` on these samples.
    """

    temperature: float
    weights: str
    samples: int
    before: dict[str, float]
    after: dict[str, float]


def log_probabilities(task: Classification, outputs_NC: Tensor, temperature: float = 1.0) -> Tensor:
    """[N, classes] in float64, at a temperature.

    Raises:
        UserError: the outputs are not what `model.output` says.
    """
    task.check(outputs_NC)
    outputs_NC = outputs_NC.double()
    if outputs_NC.shape[1] == 1:
        scores_N = torch.logit(outputs_NC[:, 0]) if task.output == "probabilities" else outputs_NC[:, 0]
        scores_NC = torch.stack([torch.zeros_like(scores_N), scores_N], dim=1)
    else:
        scores_NC = outputs_NC.log() if task.output == "probabilities" else outputs_NC
    largest = torch.finfo(torch.float64).max / HIGHEST  # an infinite score would make others NaN
    return (scores_NC.clamp(-largest, largest) / temperature).log_softmax(dim=1)


def reliability(probabilities_NC: Tensor, predicted_N: Tensor, targets_N: Tensor, bins: int = BINS) -> Reliability:
    """Of probabilities [N, classes], answers [N] and classes [N]."""
    probabilities_NC, targets_N = probabilities_NC.double().cpu(), targets_N.cpu()
    confidence_N = probabilities_NC.gather(1, predicted_N.cpu()[:, None])[:, 0]
    correct_N = (predicted_N.cpu() == targets_N).double()
    bounds = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    place_N = torch.bucketize(confidence_N, bounds[1:-1].contiguous(), right=True)
    found, error = [], 0.0
    for number in range(bins):
        inside = place_N == number
        count = int(inside.sum())
        means = (confidence_N[inside].mean().item(), correct_N[inside].mean().item()) if count else (None, None)
        found.append(Bin(bounds[number].item(), bounds[number + 1].item(), count, *means))
        if means[0] is not None and means[1] is not None:
            error += count / len(targets_N) * abs(means[0] - means[1])
    true_N = probabilities_NC.gather(1, targets_N[:, None])[:, 0]
    nll = -true_N.clamp_min(torch.finfo(torch.float64).tiny).log().mean().item()
    return Reliability(error, nll, found)


def fit(task: Classification, outputs_NC: Tensor, targets_N: Tensor, weights: str) -> Calibration:
    """The temperature of the least negative log-likelihood; 1 where none is better than that.

    The likelihood is convex in 1 / temperature (a sum of log-sum-exps of linear functions), so that an interval can
    be narrowed down to it.
    """
    outputs_NC, targets_N = outputs_NC.cpu(), targets_N.cpu()

    def nll(inverse: float) -> float:
        return -log_probabilities(task, outputs_NC, 1 / inverse).gather(1, targets_N[:, None]).mean().item()

    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(STEPS):
        third = (high - low) / 3
        if nll(low + third) <= nll(high - third):
            high -= third
        else:
            low += third
    best = 2 / (low + high)
    value = best if nll(1 / best) < nll(1.0) else 1.0
    predicted_N = task.predictions(outputs_NC)
    figures = []
    for temperature in (1.0, value):
        found = reliability(log_probabilities(task, outputs_NC, temperature).exp(), predicted_N, targets_N)
        figures.append({"nll": nll(1 / temperature), "ece": found.ece})
    return Calibration(value, weights, len(targets_N), *figures)


def write(calibration: Calibration, folder: Path) -> Path:
    """Writes calibration.json and returns its path."""
    path = folder / FILE
    text = json.dumps({"format": FORMAT, **asdict(calibration)}, indent=2, allow_nan=False)
    write_atomically(path, text.encode())
    return path


def read(folder: Path, weights: str) -> Calibration:
    """The temperature that stands in a folder.

    Args:
        weights: digest of the weights that it is to be used with.

    Raises:
        UserError: there is none, it is damaged, or belongs to other weights.
    """
    path = folder / FILE
    advice = f"Fit it: trainer evaluate {folder} --calibrate"
    if not path.is_file():
        raise UserError(f"{path}: there is no such file. {advice}")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{path}: a link that leads out of the folder. {advice}")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("too large")
        content = json.loads(path.read_text(encoding="utf-8"))
        known, value = content["format"], content["temperature"]
        if type(known) is not int or type(value) not in (int, float):
            raise ValueError("not numbers")
        if known > FORMAT:
            raise UserError(Problem(str(path), newer_format(known, FORMAT)))
        if not (math.isfinite(value) and LOWEST <= value <= HIGHEST):
            raise UserError(f"{path}: a temperature of {value}; expected {LOWEST:g} to {HIGHEST:g}. {advice}")
        found = Calibration(
            float(value),
            str(content["weights"]),
            int(content["samples"]),
            dict(content["before"]),
            dict(content["after"]),
        )
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not readable as a calibration. {advice}") from error
    if found.weights != weights:
        raise UserError(f"{path}: it belongs to other weights than these. {advice}")
    return found
