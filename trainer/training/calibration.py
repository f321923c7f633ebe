"""Calibration of probabilities: expected calibration error, temperature scaling, and calibration.json.

After Guo et al. (2017), "On calibration of modern neural networks".

Shape letters: N samples of a split, C classes or outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer.data.tasks import Classification
from trainer.errors import Problem, UserError
from trainer.files import newer_format, write_atomically
from trainer.records.contents import exists
from trainer.records.details import Bin, Reliability
from trainer.records.schema import dump, read_json

FILE = "calibration.json"
FORMAT = 1
BINS = 15
LOWEST, HIGHEST = 0.01, 100.0  # temperatures that are accepted
MAX_BYTES = 65_536
STEPS = 60  # of the search for a temperature; each shortens the interval by a third


@dataclass(frozen=True)
class Calibration:
    """A temperature that logits are divided by before the softmax; the predicted class stays the same.

    Attributes:
        temperature: the divisor, above 1 for a model that is overconfident.
        weights: digest of the weights it was fitted for.
        samples: number of validation samples it was fitted to.
        before: `nll` and `ece` of these samples at temperature 1.
        after: `nll` and `ece` at the fitted temperature.
    """

    temperature: float
    weights: str
    samples: int
    before: dict[str, float]
    after: dict[str, float]
    format: int = FORMAT


def log_probabilities(task: Classification, outputs_NC: Tensor, temperature: float = 1.0) -> Tensor:
    """Return log-probabilities [N, classes] in float64 at a temperature.

    Raises:
        UserError: the outputs do not match `model.output`.
    """
    task.check(outputs_NC)
    outputs_NC = outputs_NC.double()
    if outputs_NC.shape[1] == 1:
        scores_N = torch.logit(outputs_NC[:, 0]) if task.output == "probabilities" else outputs_NC[:, 0]
        scores_NC = torch.stack([torch.zeros_like(scores_N), scores_N], dim=1)
    else:
        scores_NC = outputs_NC.log() if task.output == "probabilities" else outputs_NC
    largest = torch.finfo(torch.float64).max / HIGHEST  # an infinite score would make the others NaN
    return (scores_NC.clamp(-largest, largest) / temperature).log_softmax(dim=1)


def reliability(probabilities_NC: Tensor, predicted_N: Tensor, targets_N: Tensor, num_bins: int = BINS) -> Reliability:
    """Compute the reliability of probabilities [N, classes], from predicted and true class indices [N]."""
    probabilities_NC, predicted_N, targets_N = probabilities_NC.double().cpu(), predicted_N.cpu(), targets_N.cpu()
    confidence_N = probabilities_NC.gather(1, predicted_N[:, None])[:, 0]
    bounds = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64)
    bin_N = torch.bucketize(confidence_N, bounds[1:-1].contiguous(), right=True)
    correct_N = (predicted_N == targets_N).double()
    bins, error = [], 0.0
    for number, (low, high) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        inside_N = bin_N == number
        count = int(inside_N.sum())
        if not count:
            bins.append(Bin(low, high, 0, None, None))
            continue
        confidence, accuracy = confidence_N[inside_N].mean().item(), correct_N[inside_N].mean().item()
        bins.append(Bin(low, high, count, confidence, accuracy))
        error += count / len(targets_N) * abs(confidence - accuracy)
    true_N = probabilities_NC.gather(1, targets_N[:, None])[:, 0]
    nll = -true_N.clamp_min(torch.finfo(torch.float64).tiny).log().mean().item()
    return Reliability(error, nll, bins)


def fit(task: Classification, outputs_NC: Tensor, targets_N: Tensor, weights: str) -> Calibration:
    """Fit the temperature that minimises the negative log-likelihood; keep 1 if none is better.

    The likelihood is convex in 1 / temperature (a sum of log-sum-exps of linear functions), so a ternary search finds
    its minimum.

    Args:
        task: the classes, and the kind of the outputs.
        outputs_NC: outputs of the model for the validation samples.
        targets_N: class indices of the validation samples.
        weights: digest of the model's weights.
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
    fitted = best if nll(1 / best) < nll(1.0) else 1.0
    predicted_N = task.predictions(outputs_NC)
    figures = []
    for temperature in (1.0, fitted):
        probabilities_NC = log_probabilities(task, outputs_NC, temperature).exp()
        ece = reliability(probabilities_NC, predicted_N, targets_N).ece
        figures.append({"nll": nll(1 / temperature), "ece": ece})
    before, after = figures
    return Calibration(fitted, weights, len(targets_N), before, after)


def write(calibration: Calibration, folder: Path) -> Path:
    """Write calibration.json into `folder` and return its path.

    Raises:
        RunFailed: the file could not be written.
    """
    path = folder / FILE
    write_atomically(path, dump(calibration).encode())
    return path


def read(folder: Path, weights: str) -> Calibration:
    """Read the calibration.json of a folder, whose content is not trusted.

    Args:
        folder: the run's folder.
        weights: digest of the weights to calibrate.

    Raises:
        UserError: the file is missing, damaged, or belongs to other weights.
    """
    path = folder / FILE

    def refusal(reason: str) -> UserError:
        command = f"trainer evaluate {folder} --calibrate"
        return UserError(Problem(str(path), reason, advice="Fit it", command=command))

    if not exists(path):
        raise refusal("there is no such file")
    try:
        calibration = read_json(path, MAX_BYTES, Calibration)
    except UserError as error:
        raise refusal("not readable as a calibration") from error
    if calibration.format > FORMAT:
        raise UserError(Problem(str(path), newer_format(calibration.format, FORMAT)))
    if not LOWEST <= calibration.temperature <= HIGHEST:
        raise refusal(f"a temperature of {calibration.temperature}; expected {LOWEST:g} to {HIGHEST:g}")
    if calibration.weights != weights:
        raise refusal("it belongs to other weights")
    return calibration
