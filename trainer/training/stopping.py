"""Conditions under which a run ends, checked after every step, and their messages."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.training.state import RunState

OVERFIT_LOSS = 0.01


@dataclass(frozen=True)
class Outcome:
    """The way a run ended: its status in results.json, and the reason in words.

    A run whose outcome is not `final` is to be resumed: it was paused, or ran out of time.
    """

    status: str
    reason: str
    final: bool = True


def reason_to_stop(state: RunState, pause_at: int | None, since_counted: float) -> Outcome | None:
    """Return the outcome of a run that ends at its present step, or None if it continues.

    `since_counted` is the seconds that are not in `state.seconds` yet.
    """
    limit = state.config
    if limit.debug.overfit and learned(state):
        accuracy = "accuracy 1.0, " if "valid_accuracy" in state.history[-1].metrics else ""
        return Outcome("completed", f"the batch is learned: {accuracy}loss {state.history[-1].valid_loss:.4f}")
    if limit.patience is not None and state.num_bad_validations >= limit.patience and state.best:
        return Outcome(
            "early_stopped",
            f"no better {limit.monitor} in {state.num_bad_validations} validations (patience={limit.patience}); "
            f"the best was {state.best.value:.4f} in {state.best_moment}",
        )
    if limit.max_steps is not None and state.step >= limit.max_steps:
        return Outcome("completed", f"max_steps={limit.max_steps} reached")
    if pause_at is not None and state.epoch >= pause_at and state.epoch < limit.epochs:
        return Outcome("paused", f"paused after epoch {state.epoch}", final=False)
    if limit.max_minutes is not None and state.seconds + since_counted >= limit.max_minutes * 60:
        return Outcome("completed", f"max_minutes={limit.max_minutes:g} reached", final=False)
    if state.epoch >= limit.epochs:
        return Outcome("completed", f"all {limit.epochs} epochs completed")
    return None


def learned(state: RunState) -> bool:
    """Return whether the one batch of debug.overfit is fitted: accuracy 1 and a loss below OVERFIT_LOSS."""
    last = state.history[-1] if state.history else None
    return last is not None and last.get("valid_accuracy") in (None, 1.0) and last.valid_loss < OVERFIT_LOSS


def not_learned(state: RunState) -> Outcome:
    """Return the outcome of a run with debug.overfit that ended without fitting its batch."""
    last = state.history[-1]
    accuracy = f"accuracy {last['valid_accuracy']:.3f}, " if "valid_accuracy" in last.metrics else ""
    return Outcome(
        "failed",
        f"one batch was not learned in {state.epoch} epochs: {accuracy}loss {last.valid_loss:.4f}. "
        "Model, loss or learning rate do not fit the data.",
    )


def diverged(state: RunState, cause: str) -> Outcome:
    """Return the outcome of a run with a value that is not finite; `cause` says which, as in "the weights are"."""
    epoch = state.epoch + 1 if state.batch else max(state.epoch, 1)
    return Outcome(
        "diverged",
        f"{cause} not finite: epoch {epoch}, after step {state.step}, learning rate "
        f"{state.optimizer.param_groups[0]['lr']:g}. Try a lower optim.lr, or clip_norm=1.",
    )
