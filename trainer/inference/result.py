"""What evaluations found: one run, several, or the mean of several; and the file in which it is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer import __version__
from trainer.data.metrics import SplitReport
from trainer.data.tasks import Classification, Regression, Task
from trainer.errors import RunFailed, UserError
from trainer.files import write_atomically
from trainer.records.details import CalibrationReport, EvaluationRecord, Reliability, ScaledReliability
from trainer.training.calibration import Calibration, log_probabilities, reliability


@dataclass(frozen=True)
class EvaluationResult:
    """What came out of an evaluation.

    Attributes:
        report: the metrics of the split.
        own: whether the data is what the run was trained on; `part` is a part of it.
        identity: the same for two evaluations of the same samples in the same order.
    """

    name: str
    task: Task
    part: str
    own: bool
    identity: str
    outputs_NC: Tensor
    targets_N: Tensor
    report: SplitReport

    def probabilities(self, calibration: Calibration | None = None) -> Tensor:
        """[N, classes], or of a regression the values [N, 1]; in float64."""
        if not isinstance(self.task, Classification):
            return self.task.estimates(self.outputs_NC)
        if calibration is None:
            return self.task.probabilities(self.outputs_NC).double()
        return log_probabilities(self.task, self.outputs_NC, calibration.temperature).exp()

    def plain(self, calibration: Calibration | None = None) -> dict[str, float]:
        """What can be compared between models of any loss: the negative log-likelihood, which no class weighs, or the
        mean squared error in the target's unit."""
        found = self.reliability(calibration)
        if found is not None:
            return {"nll": found.nll}
        errors_N = self.probabilities()[:, 0] - self.targets_N.double()
        return {"mse": errors_N.square().mean().item()}

    def reliability(self, calibration: Calibration | None = None) -> Reliability | None:
        """How far its probabilities can be believed; None for a regression."""
        if not isinstance(self.task, Classification):
            return None
        predicted_N = self.task.predictions(self.outputs_NC)
        return reliability(self.probabilities(calibration), predicted_N, self.targets_N)


def ensemble(judged: Sequence[EvaluationResult], calibrations: Sequence[Calibration | None]) -> EvaluationResult:
    """The mean of the probabilities of several runs, or of their values, judged like one of them.

    It has no loss: the runs' own may be weighted by class, or of scaled targets, and could not be compared with any
    figure of the mean. What can is `Judged.plain`.

    Raises:
        UserError: the runs do not judge the same samples, or have other classes.
    """
    first = judged[0]
    for other in judged[1:]:
        if other.task.classes != first.task.classes or other.task.name != first.task.name:
            raise UserError(f"--ensemble: {other.name} has other classes than {first.name}.")
        if other.identity != first.identity:
            raise UserError(
                f"--ensemble: the {other.part} part of {other.name} is not that of {first.name}: its samples may be "
                "what another of the runs was trained on. Train with one data.seed, or give other data: data.root=DIR"
            )
    mean_NC = torch.stack(
        [each.probabilities(calibration) for each, calibration in zip(judged, calibrations, strict=True)]
    ).mean(0)
    if isinstance(first.task, Classification):
        task: Task = replace(first.task, output="probabilities", monitored=())
    else:
        task = Regression(0.0, 1.0)
    report = task.report(mean_NC, first.targets_N, None)
    return replace(first, name=f"ensemble of {len(judged)}", task=task, outputs_NC=mean_NC, report=report)


def document(judged: EvaluationResult, calibration: Calibration | None, **about: Any) -> EvaluationRecord:
    """Return the content of evaluation-<n>.json.

    Args:
        about: fields of EvaluationRecord that say which run was evaluated on which data.
    """
    plain, mended = judged.reliability(), judged.reliability(calibration) if calibration else None
    found = None
    if plain is not None:
        scaled = None
        if calibration is not None and mended is not None:
            scaled = ScaledReliability(**vars(mended), temperature=calibration.temperature)
        found = CalibrationReport(plain, scaled)
    comparable = judged.plain(calibration)
    return EvaluationRecord(
        part=judged.part,
        samples=len(judged.targets_N),
        test=judged.report,
        own_data=judged.own,
        calibration=found,
        versions={"trainer": __version__, "torch": str(torch.__version__)},
        nll=comparable.get("nll"),
        mse=comparable.get("mse"),
        **about,
    )


def write(content: EvaluationRecord, folder: Path, stem: str = "evaluation") -> Path:
    """Writes `<stem>-<n>.json` with the first n that is free; returns its path.

    Raises:
        RunFailed: the folder cannot be written to, or a figure is not finite.
    """
    try:
        text = json.dumps(content.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise RunFailed(f"{content.run}: a figure of the evaluation is not finite.") from error
    number = 1
    while True:
        path = folder / f"{stem}-{number}.json"
        try:
            open(path, "x").close()  # exclusive: of two evaluations at once each has a file of its own
            break
        except FileExistsError:
            number += 1
        except OSError as error:
            raise RunFailed(f"{path}: could not be written ({error.strerror}).") from error
    write_atomically(path, text.encode())
    return path
