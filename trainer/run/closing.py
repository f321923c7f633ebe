"""The closing lines of a run: what its curves say about it, and a command to continue with.

Shape letters: N samples of the validation split, C classes.
"""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import torch
from torch import Tensor

from trainer.components.assemble import Components
from trainer.components.loss import LOSSES, Criterion
from trainer.components.objects import is_object
from trainer.components.schedule import depends_on_epochs
from trainer.components.targets import SCHEDULE_LENGTHS
from trainer.config.job import Job
from trainer.config.schema import Config
from trainer.data.fetch import targets_on
from trainer.data.metrics import text
from trainer.data.tasks import Task
from trainer.device import exact_dtype
from trainer.errors import printable
from trainer.training.state import RunState
from trainer.training.stopping import Outcome

ENDED = ("completed", "early_stopped")
STANDARD_ERRORS = 3  # by which an accuracy above that of a constant answer is no chance
SMALLEST = 1e-12  # share of a class without samples, whose logarithm would be infinite


def remarks(job: Job, components: Components, outcome: Outcome, path: Path) -> list[tuple[str, str]]:
    """Return name and text of a line for each of these that is true of the finished run in `path`, at most four.

    The schedule was cut short; no validation was better than a constant answer; the last validation was the best, and
    not because a schedule over all epochs ended there; the test samples have no targets, but can be predicted.
    """
    config, state = components.config, components.state
    if outcome.status not in ENDED or config.debug.batches or config.debug.overfit or config.debug.profile:
        return []
    chance = _constant_answer(components)
    if chance:
        resumed = any(word.startswith("resume=") for word in job.overrides)  # these are not all words of the run
        words = shlex.join(["trainer", "doctor", *([] if resumed else job.overrides)])
        advice = "debug=overfit" if _objects(config) else f"{words}, or debug=overfit"
        chance = f"no validation was clearly better than {chance}. Try {advice}"
    improves = _improves(state) and not depends_on_epochs(components.targets.schedule)
    last = f"the last validation was the best ({state.best_moment})" if improves else None
    lines = {"schedule": _cut_schedule(state), "chance": chance, "improving": last}
    if unlabelled := components.data.unlabelled:
        lines["predict"] = shlex.join(["trainer", "predict", str(path), f"{job.stored['data']['root']}/{unlabelled}"])
    return [(name, line) for name, line in lines.items() if line]


def next_command(job: Job, components: Components, outcome: Outcome, path: Path, *, resumed: bool) -> str | None:
    """Return a command to suggest after this outcome, or None.

    Args:
        job: the job.
        components: the components of the run.
        outcome: how it ended.
        path: the run's folder.
        resumed: whether the run was resumed, and `job` does not have the words that started it.
    """
    config, state = components.config, components.state
    if outcome.status == "interrupted":
        return _resume(path, config)
    if outcome.status not in ENDED or config.debug.overfit or config.debug.profile:
        return None
    if outcome.status == "completed" and state.epoch < config.epochs:
        return _resume(path, config, **_raised_limits(state))
    if outcome.status == "completed" and not depends_on_epochs(components.targets.schedule):
        return _resume(path, config, epochs=2 * config.epochs, **_raised_limits(state))
    if resumed or _objects(config):
        return None
    words = [word for word in job.overrides if not word.startswith("seed=")]
    return f"{shlex.join(['train', *words, f'seed={config.seed + 1}'])}   # how much of it is chance?"


def _objects(config: Config) -> list[str]:
    """Return the groups for which the calling program passed an object, which no command line can name."""
    return [group for group in ("model", "data") if is_object(getattr(config, group).target)]


def _resume(path: Path, config: Config, **changes: float | None) -> str:
    """Return the command that resumes a run with these changes, or the call from Python if it needs objects again."""
    if objects := _objects(config):
        arguments = [f"resume={str(path)!r}", *(f"{key}={value!r}" for key, value in changes.items())]
        return f"trainer.train({', '.join([*arguments, *(f'{group}=...' for group in objects)])})"
    words = (f"{key}={'null' if value is None else value}" for key, value in changes.items())
    return " ".join(["train", f"resume={shlex.quote(str(path))}", *words])


def _raised_limits(state: RunState) -> dict[str, float | None]:
    """Return `max_steps` and `max_minutes`, as far as the run has reached them, with larger values; None: no limit."""
    config, limits = state.config, dict[str, float | None]()
    if config.max_steps is not None and state.step >= config.max_steps:
        doubled = 2 * state.step
        limits["max_steps"] = doubled if doubled < config.epochs * state.steps_per_epoch else None
    if config.max_minutes is not None and state.seconds >= 60 * config.max_minutes:
        limits["max_minutes"] = float(f"{2 * max(config.max_minutes, state.seconds / 60):.4g}")
    return limits


def _improves(state: RunState) -> bool:
    """Return whether the last validation was the best of several."""
    return state.best is not None and state.best.step == state.history[-1].step and len(state.history) > 1


def _cut_schedule(state: RunState) -> str | None:
    """Return how much of the schedule was left when the run ended, or None."""
    schedule, main = state.schedule, state.schedule.main
    if state.epoch >= state.config.epochs:
        return None
    name, unit, done, length = "the warm-up", "step", state.step, schedule.warmup_steps
    lengths = [vars(main)[name] for name in SCHEDULE_LENGTHS if name in vars(main)] if main else []
    if main is not None and lengths:
        name, unit, done, length = type(main).__name__, schedule.interval, main.last_epoch, lengths[0]
    if done >= length:
        return None
    return f"{name} had {length - done:,} of {length:,} {unit}s left; the learning rate ended at {state.lr:.3g}"


def _constant_answer(components: Components) -> str | None:
    """Return the best constant answer if no validation was better; None otherwise, or if all targets are equal.

    A validation is better if its loss is lower, its accuracy higher by STANDARD_ERRORS, or its R2 above 0. Also None
    for a loss class of the user, which may not accept constant outputs or single samples.
    """
    state, task, split = components.state, components.data.task, components.data.splits["valid"]
    targets_N, classes = split.targets, task.classes
    is_own = type(_criterion(components).loss) not in LOSSES
    if is_own or not state.history or len(targets_N.unique()) < 2:
        return None
    if not classes:
        means = ", ".join(f"{mean:.4g}" for mean in targets_N.view(len(targets_N), -1).mean(0).tolist())
        answer, constant = f"always predicting the mean, {means}", 0.0
        values = [row.get("valid_r2") for row in state.history]
    elif task.several:
        shares_K = targets_N.double().mean(0)
        share = torch.maximum(shares_K, 1 - shares_K).mean().item()
        answer = f"always predicting the labels of most samples, label accuracy {text('label_accuracy', share)}"
        constant = share + STANDARD_ERRORS * math.sqrt(share * (1 - share) / len(targets_N))
        values = [row.get("valid_label_accuracy") for row in state.history]
    else:
        counts_C = torch.bincount(targets_N, minlength=len(classes))
        share = counts_C.max().item() / len(targets_N)
        answer = f"always predicting {printable(classes[int(counts_C.argmax())])}, accuracy {text('accuracy', share)}"
        constant = share + STANDARD_ERRORS * math.sqrt(share * (1 - share) / len(targets_N))
        values = [row.get("valid_accuracy") for row in state.history]
    if any(value is None or value > constant for value in values):
        return None
    loss = _constant_loss(components, split.loss_targets)
    lowest = min(row.valid_loss for row in state.history)
    return None if lowest < loss * (1 - 1e-6) else answer


@torch.no_grad()
def _constant_loss(components: Components, targets: Tensor) -> float:
    """Return the mean loss of the constant outputs that fit targets [N] or [N, C] best."""
    criterion, task = _criterion(components), components.data.task
    device, dtype = components.device, components.loading.dtype
    if task.several:
        outputs_K = _constant_outputs(criterion, task, targets_on(targets, device))
        return criterion(outputs_K.to(dtype).expand(len(targets), -1), targets_on(targets, device)).item()
    if not task.classes:
        outputs = torch.full((len(targets), 1), (targets.mean().item() - criterion.mean) / criterion.std)
        return criterion(outputs.to(device, dtype), targets_on(targets, device)).item()
    soft = targets.ndim == 2
    shares_C = targets.double().mean(0) if soft else torch.bincount(targets, minlength=len(task.classes)).double()
    if criterion.weights is not None:
        shares_C = shares_C * criterion.weights.double().cpu()
    shares_C = (shares_C / shares_C.sum()).to(dtype).to(device).clamp_min(SMALLEST)
    outputs_C = shares_C if task.output == "probabilities" else shares_C.log()
    if criterion.single:
        outputs_C = outputs_C[1:] if task.output == "probabilities" else outputs_C[1:] - outputs_C[:1]
    if soft:
        return criterion(outputs_C.expand(len(targets), -1), targets_on(targets, device)).item()
    each_class = torch.arange(len(shares_C), device=device).split(1)
    return (torch.stack([criterion(outputs_C[None], target) for target in each_class]) @ shares_C).item()


def _constant_outputs(criterion: Criterion, task: Task, targets_NK: Tensor) -> Tensor:
    """Return the constant outputs [K] that fit several numbers or labels best."""
    means_K = criterion.scaled_targets(targets_NK.to(exact_dtype(targets_NK.device))).mean(0)
    if not task.classes:
        return means_K
    weight = getattr(criterion.loss, "pos_weight", None)
    present_K = means_K if weight is None else means_K * weight
    shares_K = present_K / (present_K + 1 - means_K)
    return shares_K if task.output == "probabilities" else shares_K.logit(eps=SMALLEST)


def _criterion(components: Components) -> Criterion:
    criterion = components.population.criterion
    assert isinstance(criterion, Criterion)
    return criterion
