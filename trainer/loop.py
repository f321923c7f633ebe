"""The one loop: train, validate, keep the best, save, stop; and the one evaluation."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from trainer.config import DIRECTIONS, Config, Duration
from trainer.data.batches import Batch, Batches
from trainer.population import Solo
from trainer.signals import Interrupted, Signals
from trainer.state import Best, RunState
from trainer.step import NonFinite, eval_step, train_step

LOOK_EVERY = 50  # steps between looks at the losses on a GPU
OVERFIT_LOSS = 0.01


class Saver(Protocol):
    """What the loop asks of checkpoints."""

    def due(self, state: RunState) -> bool: ...
    def save(self, state: RunState) -> None: ...


class Report(Protocol):
    """What the loop tells about itself."""

    def begin(self, state: RunState, done: int, total: int) -> None: ...
    def advance(self, state: RunState, batches: int, samples: int) -> None: ...
    def row(self, row: dict[str, Any], best: bool) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """How a run ended: a status of results.json, the reason in words."""

    status: str
    reason: str
    final: bool = True  # False where the same run may simply be continued


class Fit:
    """A run on its way through its epochs; `fit` is its one entry.

    Holds what the moments of the loop share, so that each is a short method: the population, its data, the limits.

    Args:
        pause_at: epochs after which it stops for now, to go on later as if it had not.
    """

    def __init__(
        self,
        population: Solo,
        train: Batches,
        valid: Batches,
        config: Config,
        saver: Saver,
        report: Report,
        signals: Signals,
        pause_at: int | None = None,
    ) -> None:
        self.pause_at = pause_at
        self.population, self.train, self.valid, self.config = population, train, valid, config
        self.saver, self.report, self.signals = saver, report, signals
        self.validate_every = Duration.parse(config.validate_every)
        self.clock = self.row_clock = time.perf_counter()

    def run(self) -> Outcome:
        """Trains until a reason to stop; saves at the end, also when interrupted, but never what is not finite."""
        state = self.population.states[0]
        per_epoch = len(self.train)
        self.report.begin(state, state.epoch * per_epoch + state.batch, self.config.epochs * per_epoch)
        gc.freeze()  # what the imports made is here to stay: not to be looked through at every collection
        try:
            outcome = self._epochs(state)
        except NonFinite as what:
            return _diverged(state, what)
        except Interrupted:
            outcome = Outcome("interrupted", "interrupted")
        finally:
            gc.unfreeze()
        self._count_time(state)
        if state.step:
            try:
                self.saver.save(state)
            except NonFinite as what:
                return _diverged(state, what)
        return outcome

    def _epochs(self, state: RunState) -> Outcome:
        self._settle(state)  # what was due when the run was stopped
        self.population.train()
        outcome = self._stop(state)
        for epoch in range(state.epoch, self.config.epochs):
            if outcome:
                break
            if self.config.unfreeze_at is not None and epoch >= self.config.unfreeze_at:
                self.population.release()
            for batches in grouped(self.train.epoch(epoch, state.batch), self.config.accumulate):
                self.signals.check()
                train_step(self.population, batches, self.config.clip_norm, self.config.clip_value)
                self._advance(state, batches)
                self._settle(state)
                outcome = self._stop(state)
                if outcome:
                    break
        outcome = outcome or Outcome("completed", f"all {self.config.epochs} epochs are done")
        paused = outcome.status == "paused"  # goes on as if it had not been
        if state.validated_step != state.step and not paused and (state.best is None or outcome.final):
            self._validate(state)
        if self.config.debug.overfit and not _learned(state):
            last = state.history[-1]
            accuracy = f"accuracy {last['valid_accuracy']:.3f}, " if "valid_accuracy" in last else ""
            outcome = Outcome(
                "failed",
                f"one batch was not learned in {state.epoch} epochs: {accuracy}loss {last['valid_loss']:.4f}. "
                "Model, loss or learning rate do not fit the data.",
            )
        return outcome

    def _advance(self, state: RunState, batches: list[Batch]) -> None:
        state.batch += len(batches)
        if state.step % LOOK_EVERY == 0 and not self.population.sums.finite():
            raise NonFinite("the training loss is")
        self.report.advance(state, len(batches), sum(len(targets) for _, targets in batches))
        if state.batch >= len(self.train):
            state.epoch, state.batch = state.epoch + 1, 0
            state.schedule.after_epoch()

    def _settle(self, state: RunState) -> None:
        """Validates and saves if this is the moment for it."""
        if self._validation_due(state) and state.validated_step != state.step:
            self._validate(state)
            self.population.train()
        self._count_time(state)
        if self.saver.due(state):
            self.saver.save(state)

    def _validation_due(self, state: RunState) -> bool:
        if state.step == 0:
            return self.config.baseline
        if state.batch == 0 and state.epoch >= self.config.epochs:
            return True
        if self.validate_every.unit == "st":
            return state.step % self.validate_every.amount == 0
        return state.batch == 0 and state.epoch % self.validate_every.amount == 0

    def _validate(self, state: RunState) -> None:
        """Evaluates, judges and reports; mutates the state only once nothing can fail any more."""
        if not self.population.sums.finite():
            raise NonFinite("the training loss is")
        outputs_NC, targets_N = evaluate(self.population, self.valid, self.signals)
        loss = self.population.criterion(outputs_NC, targets_N).item()
        if not math.isfinite(loss):
            raise NonFinite("the validation loss is")
        trained = self.population.sums.count
        row = {"epoch": state.epoch, "step": state.step, "lr": state.lr or state.optimizer.param_groups[0]["lr"]}
        row |= self.population.sums.result()
        figures = self.population.sums.task.figures(outputs_NC, targets_N)
        row |= {"valid_loss": loss, **{f"valid_{name}": value for name, value in figures.items()}}
        self.population.sums.reset()
        state.validated_step = state.step
        is_best = self._judge(state, row)
        now = time.perf_counter()
        row["seconds"], self.row_clock = now - self.row_clock, now
        row["samples_per_second"] = trained / row["seconds"]
        state.history.append(row)
        self.report.row(row, is_best)

    def _judge(self, state: RunState, row: dict[str, Any]) -> bool:
        value = row[self.config.monitor]
        if value is None:  # training figures before training, or a figure that these samples do not define
            return False
        state.schedule.after_validation(value)
        sign = 1 if DIRECTIONS[self.config.monitor] == "max" else -1
        better = state.best is None or sign * (value - state.best.value) > self.config.min_delta
        if better:
            state.best = Best(value, state.epoch, state.step, state.weights(), row)
        state.waits = 0 if better else state.waits + 1
        return better

    def _stop(self, state: RunState) -> Outcome | None:
        limit = self.config
        if limit.debug.overfit and _learned(state):
            accuracy = "accuracy 1.0, " if "valid_accuracy" in state.history[-1] else ""
            return Outcome("completed", f"the batch is learned: {accuracy}loss {state.history[-1]['valid_loss']:.4f}")
        if limit.patience is not None and state.waits >= limit.patience and state.best:
            return Outcome(
                "early_stopped",
                f"no better {limit.monitor} in {state.waits} validations (patience={limit.patience}); "
                f"the best was {state.best.value:.4f} in epoch {state.best.epoch}",
            )
        if limit.max_steps is not None and state.step >= limit.max_steps:
            return Outcome("completed", f"max_steps={limit.max_steps} reached")
        if self.pause_at is not None and state.epoch >= self.pause_at and state.epoch < limit.epochs:
            return Outcome("paused", f"paused after epoch {state.epoch}", final=False)
        if limit.max_minutes is not None and state.seconds + time.perf_counter() - self.clock >= limit.max_minutes * 60:
            return Outcome("completed", f"max_minutes={limit.max_minutes:g} reached", final=False)
        return None

    def _count_time(self, state: RunState) -> None:
        now = time.perf_counter()
        state.seconds, self.clock = state.seconds + now - self.clock, now


def _learned(state: RunState) -> bool:
    last = state.history[-1] if state.history else None
    return last is not None and last.get("valid_accuracy", 1.0) == 1.0 and last["valid_loss"] < OVERFIT_LOSS


def _diverged(state: RunState, what: NonFinite) -> Outcome:
    epoch = state.epoch + 1 if state.batch else max(state.epoch, 1)
    return Outcome(
        "diverged",
        f"{what} not finite: epoch {epoch}, after step {state.step}, learning rate "
        f"{state.optimizer.param_groups[0]['lr']:g}. Try a lower optim.lr, or clip_norm=1.",
    )


def grouped(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Lists of `size` batches, the last one shorter if need be."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def evaluate(population: Solo, batches: Batches, signals: Signals) -> tuple[Tensor, Tensor]:
    """Outputs [N, C] and targets [N] of a whole part, in eval mode, in the part's order.

    All outputs are kept, so that every figure is computed once over all samples and does not depend on the batches.

    Raises:
        Interrupted: within a batch of a signal.
    """
    population.eval()
    outputs = targets = torch.empty(0)
    done = 0
    for batch in batches.epoch(0):
        signals.check()
        outputs_BC, targets_B = eval_step(population, batch)
        if not done:  # all in one place: little that is kept between large batches keeps the heap from shrinking
            *lead, _, width = outputs_BC.shape
            outputs = outputs_BC.new_empty((*lead, batches.num_samples, width))
            targets = targets_B.new_empty((batches.num_samples, *targets_B.shape[1:]))
        outputs.narrow(-2, done, len(targets_B)).copy_(outputs_BC)
        targets.narrow(0, done, len(targets_B)).copy_(targets_B)
        done += len(targets_B)
    return outputs, targets
