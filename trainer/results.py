"""What a run says about itself: the header, results.json, the pictures."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer import __version__, device
from trainer.assemble import Parts
from trainer.compose import Job
from trainer.config import Part, show
from trainer.loop import Outcome
from trainer.metrics import predictions, probabilities, test_report

__all__ = ["draw", "header", "summary", "test_report"]

MISTAKES = 24
LIBRARIES = ("torch", "torchvision", "torchmetrics", "hydra-core", "omegaconf", "numpy")


def count_parameters(parts: Parts) -> dict[str, int]:
    parameters = list(parts.state.model.parameters())
    return {
        "total": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
    }


def header(job: Job, parts: Parts, folder: Path) -> list[tuple[str, str]]:
    """(name, text) of each line above the rows."""
    config, data, counts = job.config, parts.data, count_parameters(parts)
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in data.splits.items())
    shape = "x".join(map(str, data.shape))
    lines = [
        ("run", str(folder)),
        ("data", f"{job.choices.get('data', _describe(config.data))}: {sizes}; {len(data.classes)} classes; {shape}"),
        *(("", note) for note in data.notes),
        ("model", f"{job.choices.get('model', '')}: {counts['total']:,} parameters, {counts['trainable']:,} trained"),
        ("optimizer", _describe(config.optim)),
    ]
    if config.schedule.target:
        lines.append(("schedule", _describe(config.schedule)))
    if config.augment.target:
        lines.append(("augment", _describe(config.augment)))
    threads = f", {parts.threads} threads" if parts.device.type == "cpu" else ""
    lines += [("device", f"{device.describe(parts.device)}{threads}, {config.precision}"), ("seed", str(config.seed))]
    return lines


def _describe(part: Part) -> str:
    name = (part.target or "none").rpartition(".")[2]
    return " ".join([name, *(f"{key}={show(value)}" for key, value in part.arguments.items())])


def summary(
    parts: Parts, outcome: Outcome, test: dict[str, Any] | None, *, seconds: dict[str, float], command: list[str]
) -> dict[str, Any]:
    """results.json."""
    state, best = parts.state, parts.state.best
    row = best.row if best else None
    trained = sum(r["samples_per_second"] * r["seconds"] for r in state.history)
    return {
        "status": outcome.status,
        "reason": outcome.reason,
        "task": parts.data.task,
        "epochs": state.epoch,
        "steps": state.step,
        "best_epoch": best.epoch if best else None,
        "monitor": parts.config.monitor,
        "train": row and {"loss": row["train_loss"], "accuracy": row["train_accuracy"]},
        "valid": row and {"loss": row["valid_loss"], "accuracy": row["valid_accuracy"]},
        "test": test,
        "parameters": count_parameters(parts),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "samples_per_second": trained / state.seconds if state.seconds else None,
        "device": device.describe(parts.device),
        "threads": parts.threads,
        "peak_memory_bytes": device.peak_memory(parts.device),
        "versions": {
            "trainer": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in LIBRARIES},
        },
        "seed": parts.config.seed,
        "command": command,
        "git_commit": _git_commit(),
        "data_fingerprint": parts.data.fingerprint,
        "error": outcome.reason if outcome.status in ("failed", "diverged") else None,
    }


def _git_commit() -> str | None:
    """Of the folder that the run was started in; None outside a repository or without git."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def draw(folder: Path, parts: Parts, test: dict[str, Any], outputs_NC: Tensor) -> None:
    """curves.png, confusion_matrix.png and, for images with mistakes among them, mistakes.png."""
    from trainer.report import plots

    state, classes = parts.state, parts.data.classes
    plots.curves(folder / "curves.png", state.history, state.best.epoch if state.best else None)
    plots.confusion_matrix(folder / "confusion_matrix.png", test["confusion_matrix"], classes)
    split = parts.data.splits["test"]
    predicted_N = predictions(outputs_NC)
    wrong = (predicted_N != split.targets).nonzero().flatten()
    if len(parts.data.shape) != 3 or len(wrong) == 0:
        return
    confidence = probabilities(outputs_NC)[wrong, predicted_N[wrong]]
    order = wrong[confidence.argsort(descending=True)][:MISTAKES]
    captions = [
        f"{classes[predicted_N[i]]} ({probabilities(outputs_NC[i : i + 1])[0, predicted_N[i]]:.0%})\n"
        f"true: {classes[split.targets[i]]}"
        for i in order.tolist()
    ]
    plots.mistakes(folder / "mistakes.png", split.samples.take(split.indices[order]), captions)
