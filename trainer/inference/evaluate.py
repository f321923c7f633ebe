"""From the runs that `trainer evaluate` names to figures, files and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.data.images.pool import Progress
from trainer.errors import UserError
from trainer.inference.checkpoint import LoadedCheckpoint, open_for_verb
from trainer.inference.evaluation import Evaluation
from trainer.inference.predictor import stored_calibration
from trainer.inference.result import EvaluationResult, document, ensemble, write
from trainer.records.details import EvaluationRecord
from trainer.signals import Signals
from trainer.training import calibration
from trainer.training.calibration import Calibration


@dataclass(frozen=True)
class EvaluationRequest:
    """What is to be done with each run.

    Attributes:
        words: key=value.
        part: train, valid or test; None is the test part, or the only one of other data.
        calibrate: fit a temperature on the validation part, and store it.
        calibrated: use the stored one.
        trust: the runs may name code of their own.
    """

    words: Sequence[str] = ()
    part: str | None = None
    calibrate: bool = False
    calibrated: bool = False
    trust: bool = False


@dataclass(frozen=True)
class WrittenEvaluation:
    """An evaluation that is over; `path` is where it was written."""

    judged: EvaluationResult
    calibration: Calibration | None
    content: EvaluationRecord
    path: Path
    epoch: int


def evaluate_run(
    name: str,
    asked: EvaluationRequest,
    signals: Signals,
    progress: Progress | None = None,
    beside: WrittenEvaluation | None = None,
) -> WrittenEvaluation:
    """Evaluates one run, and writes evaluation-<n>.json, and a picture of its calibration, beside its checkpoint.

    Args:
        beside: another run that its figures are to stand beside.

    Raises:
        UserError: the run, the data or what is asked for cannot be used.
        RunFailed: a file could not be written.
        Interrupted: within a batch of a signal.
    """
    opened = open_for_verb(name, trusted=asked.trust)
    if beside is not None and bool(beside.judged.task.classes) != bool(opened.about.classes):
        both = (opened.about.classes, beside.judged.task.classes)
        kind, other = ("classes" if classes else "numbers" for classes in both)
        raise UserError(
            f"{opened.name}: its answers are {kind}, and those of {beside.judged.name} are {other}: they have no "
            "figure in common. Evaluate each by itself."
        )
    if asked.calibrate and not opened.about.classes:
        raise UserError(f"{opened.name}: --calibrate: a regression has no probabilities to calibrate.")
    known = stored_calibration(opened) if asked.calibrated and not asked.calibrate else None
    evaluation = Evaluation(opened, asked.words, progress)
    if asked.calibrate:
        known = _calibrate(opened, evaluation, signals)
    judged = evaluation.part(asked.part, signals)
    data = evaluation.config.data
    about: dict[str, Any] = {
        "run": str(opened.path.resolve()),
        "epoch": opened.epoch,
        "step": opened.step,
        "data": {"_target_": data.target, "root": data.root, "path": data.arguments.get("path")},
        "overrides": list(asked.words),
    }
    return _written(judged, known, document(judged, known, **about), opened.folder, "evaluation", opened.epoch)


def _calibrate(opened: LoadedCheckpoint, evaluation: Evaluation, signals: Signals) -> Calibration:
    if not evaluation.own:
        raise UserError(
            f"{opened.name}: --calibrate: a temperature is fitted on the validation part of the run's own data, and "
            "this is other data. Name that with data.root=DIR, and evaluate others with --calibrated afterwards."
        )
    judged = evaluation.part("valid", signals)
    fitted = calibration.fit(judged.task, judged.outputs_NC, judged.targets_N, opened.digest)  # type: ignore[arg-type]
    calibration.write(fitted, opened.folder)
    return fitted


def evaluate_together(done: Sequence[WrittenEvaluation]) -> WrittenEvaluation:
    """The mean of the probabilities of several runs; written to evaluation-ensemble-<n>.json in the current folder.

    Raises:
        UserError: they did not judge the same samples.
        RunFailed: a file could not be written.
    """
    judged = ensemble([each.judged for each in done], [each.calibration for each in done])
    about: dict[str, Any] = {"run": [str(each.content.run) for each in done], "data": done[0].content.data}
    return _written(judged, None, document(judged, None, **about), Path(), "evaluation-ensemble", 0)


def _written(
    judged: EvaluationResult, known: Calibration | None, content: EvaluationRecord, folder: Path, stem: str, epoch: int
) -> WrittenEvaluation:
    path = write(content, folder, stem)
    found = content.calibration
    if found is not None:
        from trainer.report import plots

        curves = {"as it is": found.uncalibrated.bins}
        if found.calibrated is not None:
            curves[f"temperature {found.calibrated.temperature:.3f}"] = found.calibrated.bins
        plots.reliability(path.with_suffix(".png"), curves)
    return WrittenEvaluation(judged, known, content, path, epoch)
