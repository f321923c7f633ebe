"""`trainer explain`: which pixels or columns decided a model's predictions."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer import device
from trainer.data.images.pool import Progress
from trainer.data.mistakes import most_confident_mistakes
from trainer.data.regression import Regression
from trainer.data.tasks import NO_CLASSES, Classification, Task
from trainer.errors import Problem, UserError, suggestions
from trainer.inference.attribution import Attributor
from trainer.inference.evaluate import evaluate_split
from trainer.inference.evaluation import EvaluationData, read_data
from trainer.inference.importance import metric_of, permutation_importance, score
from trainer.inference.inputs import Sample, chunks
from trainer.inference.predictor import NOT_FINITE, Predictor, finite
from trainer.inference.settings import evaluation_settings
from trainer.records.details import Mistake
from trainer.records.explained import ExplainedMistakes, Importance
from trainer.signals import Signals

CHUNK = 16  # inputs that are explained at a time


@dataclass(frozen=True)
class Explanation:
    """What decided the prediction for one input; an input that cannot be used has an error instead.

    Attributes:
        input: the file; for a row of a table, with its line.
        about: the class, label or target that is explained; empty for a single number.
        value: its probability, or the predicted number.
        answer: both as text, such as `cat 97.21%`.
        image: what the model sees, float [3, H, W] from 0 to 1; None for a row.
        parts: attributions of pixels [H, W] or columns [K].
        error: why there is no explanation.
    """

    input: str
    about: str = ""
    value: float | None = None
    answer: str = ""
    image: Tensor | None = None
    parts: Tensor | None = None
    error: str | None = None


@dataclass(frozen=True)
class SplitRequest:
    """Options for the explanation of a whole split.

    Attributes:
        words: overrides `key=value` of the data.
        split: train, valid or test; None for the test split, or the only one of other data.
        repeats, seed: of the permutations of a table's columns.
        method: how images are explained; see Attributor.
    """

    words: Sequence[str] = ()
    split: str | None = None
    repeats: int = 10
    seed: int = 0
    method: str | None = None


def explain_inputs(
    attributor: Attributor, inputs: Iterable[Sample], output: int | None, progress: Progress
) -> Iterator[Explanation]:
    """Explain inputs in order, a few at a time; those that cannot be read are passed on.

    Args:
        output: the number of the output to explain; None for the predicted class or the most likely label.
        progress: called with the number of finished inputs; may raise to stop.
    """
    finished = 0
    for chunk in chunks(inputs, CHUNK):
        readable = [sample for sample in chunk if sample.raw is not None]
        answers = iter(_explain(attributor, readable, output) if readable else ())
        for sample in chunk:
            yield Explanation(sample.name, error=sample.problem) if sample.raw is None else next(answers)
        finished += len(chunk)
        progress("explaining", finished, 0)


def output_number(predictor: Predictor, target: str | None) -> int | None:
    """Return the number of the output to explain; None for the most likely one of each input.

    Raises:
        UserError: the model has no such class, label or target, or several targets and none was chosen.
    """
    task, key = predictor.task, f"--target {target}"
    names = task.targets if isinstance(task, Regression) else task.classes
    if target is None:
        if isinstance(task, Regression) and task.several:
            raise UserError(Problem("--target", f"expected one of the model's targets: {', '.join(task.targets)}"))
        return 0 if isinstance(task, Regression) else None
    if not names:
        raise UserError(Problem(key, "the model predicts a single number"))
    if target not in names:
        raise UserError(Problem(key, "the model does not predict it", advice=suggestions(target, names, most=20)))
    return names.index(target)


def _explain(attributor: Attributor, samples: Sequence[Sample], output: int | None) -> list[Explanation]:
    raw = torch.stack([sample.raw for sample in samples if sample.raw is not None])
    predictor, task = attributor.predictor, attributor.predictor.task
    outputs_NC = predictor.outputs(raw)
    answers_NC = predictor.probabilities(outputs_NC).view(len(raw), -1)
    usable = finite(outputs_NC) & finite(answers_NC)
    if output is not None:
        targets_N = torch.full((len(raw),), output)
    elif isinstance(task, Classification):
        targets_N = task.predictions(outputs_NC)
    else:
        targets_N = answers_NC.argmax(1)
    explain = attributor.pixels if predictor.takes_images else attributor.columns
    parts = torch.full((len(raw), *_shape(predictor)), torch.nan)
    if bool(usable.any()):
        parts[usable] = explain(raw[usable], targets_N[usable])
    explanations = []
    for number, sample in enumerate(samples):
        target = int(targets_N[number])
        if not usable[number] or not bool(parts[number].isfinite().all()):
            explanations.append(Explanation(sample.name, error=NOT_FINITE))
            continue
        image = seen(predictor, raw[number]) if predictor.takes_images else None
        about, value = _name(task, target), answers_NC[number, target].item()
        answer = f"{about} {value:.6g}" if isinstance(task, Regression) else f"{about} {value:.2%}"
        explanations.append(Explanation(sample.name, about, value, answer.lstrip(), image, parts[number]))
    return explanations


def _name(task: Task, target: int) -> str:
    """Return the name of a class, label or target; an empty string for a single number."""
    names = task.targets if isinstance(task, Regression) else task.classes
    return names[target] if names else ""


def _shape(predictor: Predictor) -> tuple[int, ...]:
    """Return the shape of a sample's attributions."""
    prepare = predictor.prepare
    return prepare.output_shape[1:] if predictor.takes_images else prepare.shape


def seen(predictor: Predictor, raw: Tensor) -> Tensor:
    """Return a raw image as the model sees it, resized or padded, in float [3, H, W] from 0 to 1."""
    prepare = predictor.prepare
    means, stds = (torch.tensor(values)[:, None, None] for values in prepare.statistics)  # type: ignore[union-attr]
    pixels = prepare(raw[None])[0].cpu() * stds + means
    if predictor.metadata.dtype == torch.uint8:
        pixels = (pixels / 255).clamp(0, 1)
    else:
        pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min()).clamp(min=1e-9)
    return pixels if len(pixels) == 3 else pixels[:1].expand(3, -1, -1)


def explain_split(
    predictor: Predictor, request: SplitRequest, signals: Signals, progress: Progress
) -> Importance | ExplainedMistakes:
    """Explain a whole split: the importance of a table's columns, or the most confident mistakes among images.

    Raises:
        UserError: the data cannot be used, or nothing can be explained about the model's task.
        Interrupted: a signal arrived; at the next batch.
    """
    settings = evaluation_settings(predictor.checkpoint, request.words)
    device.set_up(settings.config.threads, settings.config.deterministic)
    if predictor.takes_images:
        if (reason := NO_CLASSES.get(predictor.task.name)) is not None:
            advice = "Name images to explain."
            raise UserError(Problem(predictor.checkpoint.name, f"it has no mistakes to show: {reason}", advice=advice))
        attributor = Attributor(predictor, request.method)
    elif len(predictor.prepare.shape) != 1:
        reason = f"samples of shape {list(predictor.prepare.shape)}; expected images or rows"
        raise UserError(Problem(predictor.checkpoint.name, reason))
    elif request.method is not None:
        reason = "without inputs, the columns of a table are permuted"
        raise UserError(Problem(f"--method {request.method}", reason, advice="Name rows to explain."))
    data = read_data(settings, progress)
    name = request.split or data.default_split
    if predictor.takes_images:
        return _mistakes(attributor, data, name, signals)
    split = data.split(name)
    rows = split.samples.take(split.indices), split.targets
    columns = permutation_importance(predictor, rows, request.repeats, request.seed, progress)
    order = sorted(columns, key=lambda column: -column.mean)
    whole = score(predictor, *rows)
    shown = data.shown_name(name)
    return Importance(shown, len(split), data.own, metric_of(predictor), whole, request.repeats, request.seed, order)


def _mistakes(attributor: Attributor, data: EvaluationData, name: str, signals: Signals) -> ExplainedMistakes:
    """Draw the most confident mistakes of a split beside what decided them."""
    from trainer.report.explanation import png, side_by_side

    predictor, split = attributor.predictor, data.split(name)
    task = predictor.task
    assert isinstance(task, Classification)
    outputs_NC = evaluate_split(predictor.forward, data, name, signals).outputs_NC
    mistakes = []
    for position, guess, chance in zip(*most_confident_mistakes(task, split, outputs_NC), strict=True):
        signals.check()
        raw = split.samples.take(split.indices[position][None])
        (heat,) = attributor.pixels(raw, guess[None])
        picture = base64.b64encode(png(side_by_side(seen(predictor, raw[0]), heat))).decode()
        true = task.classes[split.targets[position]]
        mistakes.append(Mistake(picture, task.classes[guess], true, round(chance.item(), 6)))
    return ExplainedMistakes(data.shown_name(name), attributor.method, mistakes)
