"""`trainer evaluate`: evaluate finished runs, write the results, and average the probabilities of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainer import device
from trainer.components.feed import evaluation_batches
from trainer.components.loss import build_criterion
from trainer.components.metrics import with_metrics
from trainer.data.dataset import Data
from trainer.data.fetch import targets_on
from trainer.data.images.pool import Progress
from trainer.data.loader import LoaderConfig
from trainer.data.tasks import Classification, Task
from trainer.errors import Problem, UserError
from trainer.inference.checkpoint import LoadedCheckpoint, open_for_verb
from trainer.inference.evaluation import EvaluationData, read_data
from trainer.inference.model import InferenceModel
from trainer.inference.predictor import stored_calibration, uncalibrated
from trainer.inference.result import EvaluationResult, ensemble, record, write
from trainer.inference.settings import evaluation_settings
from trainer.records.details import EvaluationRecord
from trainer.signals import Signals
from trainer.training import calibration
from trainer.training.calibration import Calibration
from trainer.training.evaluate import evaluate_and_report


@dataclass(frozen=True)
class EvaluationRequest:
    """Options of an evaluation, the same for each run.

    Attributes:
        words: overrides `key=value`.
        split: train, valid or test; None for the test split, or the only one of other data.
        calibrate: whether to fit a temperature on the validation split, and to store it.
        calibrated: whether to use the stored temperature.
        trust: whether the runs may name code outside this program, torch and torchvision.
    """

    words: Sequence[str] = ()
    split: str | None = None
    calibrate: bool = False
    calibrated: bool = False
    trust: bool = False


@dataclass(frozen=True)
class WrittenEvaluation:
    """A finished evaluation, the temperature that it used, and the file that was written."""

    result: EvaluationResult
    calibration: Calibration | None
    content: EvaluationRecord
    path: Path


def evaluate_run(
    name: str,
    request: EvaluationRequest,
    signals: Signals,
    progress: Progress | None = None,
    beside: WrittenEvaluation | None = None,
) -> WrittenEvaluation:
    """Evaluate a run, and write evaluation-<n>.json and a reliability diagram beside its checkpoint.

    Args:
        name: a run folder or a checkpoint file.
        request: options.
        signals: checked before each batch.
        progress: called while the data is read; may raise to stop.
        beside: the evaluation of another run to compare with.

    Raises:
        UserError: the run, the data or the request cannot be used.
        RunFailed: a file could not be written.
        Interrupted: a signal arrived; at the next batch.
    """
    checkpoint = open_for_verb(name, trusted=request.trust)
    _check_request(checkpoint, request, beside)
    temperature = stored_calibration(checkpoint) if request.calibrated and not request.calibrate else None
    settings = evaluation_settings(checkpoint, request.words)
    config = settings.config
    device.set_up(config.threads, config.deterministic)
    model = InferenceModel(checkpoint, config.device, config.precision, compiled=config.compile)
    data = read_data(settings, progress)
    if request.calibrate:
        temperature = _calibrate(model, data, signals)
    result = evaluate_split(model, data, request.split or data.default_split, signals)
    content = replace(
        record(result, temperature),
        run=str(checkpoint.path.resolve()),
        epoch=checkpoint.epoch,
        step=checkpoint.step,
        data={name: settings.stored["data"].get(name) for name in ("_target_", "root", "path")},
        overrides=list(request.words),
    )
    return WrittenEvaluation(result, temperature, content, write(content, checkpoint.folder, "evaluation"))


def _check_request(checkpoint: LoadedCheckpoint, request: EvaluationRequest, beside: WrittenEvaluation | None) -> None:
    """Check that the run can be compared and calibrated as requested."""
    task = checkpoint.metadata.task
    answers = _answers(task)
    if beside is not None and (others := _answers(beside.result.task)) != answers:
        reason = f"it predicts {answers}, and {beside.result.name} predicts {others}: they have no metric in common"
        raise UserError(Problem(checkpoint.name, reason, advice="Evaluate each by itself."))
    if request.calibrate and (refusal := uncalibrated(task)):
        raise UserError(Problem("--calibrate", refusal, source=checkpoint.name))


def _answers(task: Task) -> str:
    return {"multilabel": "labels", "regression": "numbers"}.get(task.name, "classes")


def evaluate_split(model: InferenceModel, data: EvaluationData, name: str, signals: Signals) -> EvaluationResult:
    """Evaluate a run on one split.

    Raises:
        UserError: there is no such split, or its samples are of another shape.
        Interrupted: a signal arrived; at the next batch.
    """
    split, config, checkpoint = data.split(name), data.settings.config, data.settings.checkpoint
    metadata = checkpoint.metadata
    task = with_metrics(metadata.task, config.metric, data.settings.targets)
    examples, output = targets_on(split.loss_targets[:2], model.device), config.model.output
    loss, weights = data.settings.targets.loss, metadata.class_weights
    criterion = build_criterion(loss, task, output, weights, examples, model.dtype)
    workers, free_memory = device.loader_workers(config.data.workers), device.free_memory(model.device)
    loading = LoaderConfig(model.device, model.dtype, free_memory, config.data.resident, workers)
    split_data = Data(task, {name: split}, metadata.prepare, metadata.fingerprint)
    batches = evaluation_batches(config.batch_size, split_data, name, loading)
    evaluation = evaluate_and_report(model, criterion, task, batches, signals)
    targets_N = evaluation.targets_N.cpu()
    return EvaluationResult(
        checkpoint.name,
        task,
        data.shown_name(name),
        data.own,
        data.identity(name),
        evaluation.outputs_NC.cpu(),
        targets_N.argmax(1) if targets_N.ndim == 2 and not metadata.task.several else targets_N,
        evaluation.report,
    )


def _calibrate(model: InferenceModel, data: EvaluationData, signals: Signals) -> Calibration:
    """Fit a temperature on the validation split, and write it beside the run."""
    checkpoint = data.settings.checkpoint
    if not data.own:
        reason = "a temperature is fitted on the validation split of the run's own data, but this is other data"
        advice = "Name the run's data with data.root=DIR, then evaluate other data with --calibrated."
        raise UserError(Problem("--calibrate", reason, advice=advice, source=checkpoint.name))
    result = evaluate_split(model, data, "valid", signals)
    assert isinstance(result.task, Classification)
    fitted = calibration.fit(result.task, result.outputs_NC, result.targets_N, checkpoint.digest)
    calibration.write(fitted, checkpoint.folder)
    return fitted


def evaluate_ensemble(members: Sequence[WrittenEvaluation]) -> WrittenEvaluation:
    """Average the probabilities of several runs, and write evaluation-ensemble-<n>.json to the current folder.

    Raises:
        UserError: the runs were not evaluated on the same samples.
        RunFailed: a file could not be written.
    """
    result = ensemble([each.result for each in members], [each.calibration for each in members])
    runs = [str(each.content.run) for each in members]
    content = replace(record(result, None), run=runs, data=members[0].content.data)
    return WrittenEvaluation(result, None, content, write(content, Path(), "evaluation-ensemble"))
