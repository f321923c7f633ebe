"""Results of evaluations, of one run or of an ensemble, and the JSON file that holds them.

Shape letters: N samples of a split, C outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from trainer import __version__
from trainer.data.confidence import with_confidence
from trainer.data.metrics import SplitReport
from trainer.data.regression import Regression
from trainer.data.tasks import Classification, Task
from trainer.errors import Problem, RunFailed, UserError
from trainer.files import write_atomically
from trainer.records.contents import create
from trainer.records.details import CalibrationReport, EvaluationRecord, Reliability, ScaledReliability
from trainer.records.schema import dump
from trainer.training.calibration import Calibration, log_probabilities, reliability


@dataclass(frozen=True)
class EvaluationResult:
    """The outcome of an evaluation.

    Attributes:
        name: the run, as a user would name it.
        split: the split that was evaluated.
        own: whether it is a split of the data that the run was trained on.
        identity: digest of the samples and their order.
        outputs_NC: the model's outputs.
        targets_N: class indices [N], values [N] or [N, K], or labels [N, K].
    """

    name: str
    task: Task
    split: str
    own: bool
    identity: str
    outputs_NC: Tensor
    targets_N: Tensor
    report: SplitReport

    def probabilities(self, calibration: Calibration | None = None) -> Tensor:
        """Return probabilities [N, classes] in float64, or the values [N, K] of a regression on K targets."""
        if not isinstance(self.task, Classification) or calibration is None:
            return self.task.estimates(self.outputs_NC).double()
        return log_probabilities(self.task, self.outputs_NC, calibration.temperature).exp()

    def reliability(self, calibration: Calibration | None = None) -> Reliability | None:
        """Compare confidence with accuracy; None without classes of which one is predicted."""
        if not isinstance(self.task, Classification):
            return None
        predicted_N = self.task.predictions(self.outputs_NC)
        return reliability(self.probabilities(calibration), predicted_N, self.targets_N)

    def mean_squared_error(self) -> float | None:
        """Return the mean squared error of a regression, in the target's unit squared, or the mean of those of several.

        None for other tasks.
        """
        if not isinstance(self.task, Regression):
            return None
        errors = self.task.values(self.outputs_NC) - self.targets_N.double()
        return errors.square().mean().item()


def ensemble(results: Sequence[EvaluationResult], calibrations: Sequence[Calibration | None]) -> EvaluationResult:
    """Evaluate the mean of the probabilities, or of the values, of several runs.

    It has no loss, because the losses of the runs may weight classes or scale targets.

    Raises:
        UserError: the runs were not evaluated on the same samples, or have different classes.
    """
    first = results[0]
    for other in results[1:]:
        if _answers(other.task) != _answers(first.task):
            what = "classes" if first.task.classes and other.task.classes else "targets"
            raise UserError(Problem("--ensemble", f"{other.name} has different {what} from {first.name}"))
        if other.identity != first.identity:
            reason = f"the {other.split} split of {other.name} is not that of {first.name}"
            reason += ": its samples may be what another of the runs was trained on"
            advice = "Train with one data.seed, or give other data"
            raise UserError(Problem("--ensemble", reason, advice=advice, command="data.root=DIR"))
    members = [each.probabilities(calibration) for each, calibration in zip(results, calibrations, strict=True)]
    mean_NC = torch.stack(members).mean(0)
    if not isinstance(first.task, Regression):
        task: Task = replace(first.task, output="probabilities", monitored=())
    elif names := first.task.targets:
        task = replace(first.task, mean=(0.0,) * len(names), std=(1.0,) * len(names))
    else:
        task = replace(first.task, mean=0.0, std=1.0)
    report = with_confidence(task.report(mean_NC, first.targets_N, None), len(first.targets_N))
    return replace(first, name=f"ensemble of {len(results)}", task=task, outputs_NC=mean_NC, report=report)


def _answers(task: Task) -> tuple[str, tuple[str, ...]]:
    """Return what a task predicts: its name, and its classes, labels or targets."""
    return task.name, task.targets if isinstance(task, Regression) else task.classes


def record(result: EvaluationResult, calibration: Calibration | None) -> EvaluationRecord:
    """Return the content of evaluation-<n>.json, without the fields that name the run and the data.

    The probabilities at the temperature of `calibration` are reported as well.
    """
    uncalibrated, calibrated = result.reliability(), result.reliability(calibration)
    scaled = report = None
    if calibrated is not None and calibration is not None:
        scaled = ScaledReliability(**vars(calibrated), temperature=calibration.temperature)
    if uncalibrated is not None:
        report = CalibrationReport(uncalibrated, scaled)
    return EvaluationRecord(
        split=result.split,
        samples=len(result.targets_N),
        test=result.report,
        own_data=result.own,
        nll=None if calibrated is None else calibrated.nll,
        mse=result.mean_squared_error(),
        calibration=report,
        versions={"trainer": __version__, "torch": str(torch.__version__)},
    )


def write(content: EvaluationRecord, folder: Path, stem: str) -> Path:
    """Write `<stem>-<n>.json` with the first free n, and a reliability diagram beside it; return the file's path.

    Raises:
        RunFailed: a file cannot be written, or a metric is not finite.
    """
    try:
        text = dump(content)
    except ValueError as error:
        raise RunFailed(f"{content.run}: a metric of the evaluation is not finite.") from error
    number = 1
    while True:
        path = folder / f"{stem}-{number}.json"
        try:
            create(path)  # exclusive: two evaluations at once write two files
            break
        except FileExistsError:
            number += 1
        except OSError as error:
            raise RunFailed(f"{path}: could not be written ({error.strerror}).") from error
    write_atomically(path, text.encode())
    if content.calibration is not None:
        from trainer.report import plots

        uncalibrated, calibrated = content.calibration.uncalibrated, content.calibration.calibrated
        curves = {"uncalibrated": uncalibrated.bins}
        if calibrated is not None:
            curves[f"temperature {calibrated.temperature:.3f}"] = calibrated.bins
        plots.reliability(path.with_suffix(".png"), curves)
    return path
