"""The header of a run, its results.json and its pictures."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

from torch import Tensor

from trainer import __version__, device
from trainer.components.assemble import Components
from trainer.components.preprocessing import describe_inputs
from trainer.config.job import Job
from trainer.config.schema import defaults
from trainer.data.dataset import Split
from trainer.data.metrics import SplitReport
from trainer.data.mistakes import most_confident_mistakes
from trainer.data.regression import Regression
from trainer.data.tasks import Classification
from trainer.errors import show
from trainer.records.metrics import x_axis
from trainer.records.results import Results
from trainer.training.stopping import Outcome

LIBRARIES = ("torch", "torchvision", "torchmetrics", "hydra-core", "omegaconf", "numpy")


def count_parameters(components: Components) -> dict[str, int]:
    """Return the numbers of all parameters and of those that are trained."""
    parameters = list(components.state.model.parameters())
    return {
        "total": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
    }


def header(job: Job, components: Components, folder: Path) -> list[tuple[str, str]]:
    """Return the name and the text of each line of the header."""
    config, data, counts = job.config, components.data, count_parameters(components)
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in data.splits.items())
    shape = "x".join(map(str, data.shape)) if len(data.shape) > 1 else f"{data.shape[0]} columns"
    kind = data.task.name
    if data.task.classes:
        kind = f"{len(data.task.classes)} {'labels' if data.task.several else 'classes'}"
    elif data.task.several:
        kind = f"regression on {data.task.answers} targets"
    lines = [
        ("run", str(folder)),
        ("data", f"{job.choices.get('data', 'data')}: {sizes}; {kind}; {shape}"),
        *(("", note) for note in data.notes),
        *([("inputs", inputs)] if (inputs := describe_inputs(data, config.data, components.preprocessing)) else []),
        ("model", f"{job.choices.get('model', '')}: {counts['total']:,} parameters, {counts['trainable']:,} trained"),
        *([("", "features of the frozen backbone are computed once and cached")] if components.features else []),
        ("optimizer", _describe(job, "optim")),
    ]
    mixes = config.augment.mixup or config.augment.cutmix
    chosen = {"schedule": config.schedule.target, "augment": config.augment.target or mixes}
    lines += [(name, _describe(job, name)) for name, used in chosen.items() if used]
    threads = f", {components.threads} threads" if components.device.type == "cpu" else ""
    lines += [
        ("device", f"{device.describe(components.device)}{threads}, {config.precision}"),
        ("seed", str(config.seed)),
    ]
    return lines


def _describe(job: Job, group: str) -> str:
    """Return a group's target and the values that differ from the defaults.

    They are shown as stored, so that a value taken from an environment variable stays hidden.
    """
    stored, default = job.stored[group], defaults()[group]
    name = (stored["_target_"] or "").rpartition(".")[2]
    values = {key: value for key, value in stored.items() if key != "_target_" and (key, value) not in default.items()}
    return " ".join([name, *(f"{key}={show(value)}" for key, value in values.items())]).strip()


def summary(
    components: Components,
    outcome: Outcome,
    test: SplitReport | None,
    *,
    seconds: dict[str, float],
    command: list[str],
    overrides: list[str],
) -> Results:
    """Return the content of results.json.

    Args:
        components: the components of the run.
        outcome: how it ended.
        test: the report on the test split; None if it was not tested.
        seconds: seconds of setup, training and testing, and their sum.
        command: the command line, which may have started a whole sweep.
        overrides: the overrides of this run alone.
    """
    state, best = components.state, components.state.best
    trained = sum(r.samples_per_second * r.seconds for r in state.history)
    return Results(
        status=outcome.status,
        reason=outcome.reason,
        task=components.data.task.name,
        epochs=state.epoch,
        steps=state.step,
        steps_per_epoch=state.steps_per_epoch,
        best_epoch=best.epoch if best else None,
        best_step=best.step if best else None,
        monitor=components.config.monitor,
        train=best.row.split("train") if best else None,
        valid=best.row.split("valid") if best else None,
        test=test,
        parameters=count_parameters(components),
        seconds={name: round(value, 4) for name, value in seconds.items()},
        samples_per_second=trained / state.seconds if state.seconds else None,
        device=device.describe(components.device),
        threads=components.threads,
        peak_memory_bytes=device.peak_memory(components.device),
        versions=versions(),
        seed=components.config.seed,
        command=command,
        overrides=overrides,
        git_commit=_git_commit(),
        data_fingerprint=components.data.fingerprint,
        skipped_images=components.data.skipped,
        unlabelled="test" not in components.data.splits,
        error=outcome.reason if outcome.status in ("failed", "diverged") else None,
    )


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of this program, of Python and of the libraries it uses."""
    installed = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"trainer": __version__, "python": platform.python_version(), **installed}


@functools.cache
def _git_commit() -> str | None:
    """Return the commit of the current folder; None outside a repository or without git."""
    try:
        git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return git.stdout.strip() if git.returncode == 0 else None


def draw(folder: Path, components: Components, test: SplitReport, outputs_NC: Tensor) -> None:
    """Draw curves.png, predictions.png of a regression, and confusion_matrix.png and mistakes.png of classes."""
    from trainer.report import plots

    state, task, split = components.state, components.data.task, components.data.splits["test"]
    across = x_axis([row.moment for row in state.history], state.steps_per_epoch)
    plots.curves(folder / "curves.png", state.history, across, getattr(state.best, across, None))
    if isinstance(task, Regression):
        targets_NK = split.targets.view(len(split), -1)
        plots.predictions(folder / "predictions.png", targets_NK, task.estimates(outputs_NC), task.targets)
    if not isinstance(task, Classification):
        return
    plots.confusion_matrix(folder / "confusion_matrix.png", test.confusion_matrix, task.classes)
    if len(components.data.shape) == 3:
        _draw_mistakes(folder / "mistakes.png", task, split, outputs_NC)


def _draw_mistakes(path: Path, task: Classification, split: Split, outputs_NC: Tensor) -> None:
    """Draw the most confident mistakes; no picture if there are none."""
    from trainer.report import plots

    positions, predicted, probabilities = most_confident_mistakes(task, split, outputs_NC)
    captions = [
        f"{task.classes[guess]} ({probability:.0%})\ntrue: {task.classes[split.targets[position]]}"
        for position, guess, probability in zip(
            positions.tolist(), predicted.tolist(), probabilities.tolist(), strict=True
        )
    ]
    if captions:
        plots.mistakes(path, split.samples.take(split.indices[positions]), captions)
