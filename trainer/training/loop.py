"""The one loop: train, validate, keep the best, save, stop; and the one evaluation."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol

from trainer.config.schema import Duration
from trainer.data.batches import Batch, Batches
from trainer.data.metrics import DIRECTIONS
from trainer.records.metrics import MetricsRow
from trainer.signals import Interrupted, Signals
from trainer.training.evaluate import evaluate
from trainer.training.population import Population
from trainer.training.state import Best, RunState
from trainer.training.step import NonFinite, train_step, update
from trainer.training.stopping import Outcome, diverged, learned, not_learned, reason_to_stop

LOOK_EVERY = 50  # steps between looks at the losses on a GPU


class Saver(Protocol):
    """What the loop asks of checkpoints."""

    def due(self, state: RunState) -> bool: ...
    def save(self, state: RunState) -> None:
        """A run for good, or for now."""

    def save_best(self, state: RunState) -> None:
        """The best weights of a run whose present ones are lost."""

    def save_all(self, states: Sequence[RunState]) -> None:
        """The runs that train together, on their way."""


class Report(Protocol):
    """What the loop tells about itself."""

    def begin(self, state: RunState, done: int, total: int) -> None: ...
    def advance(self, state: RunState, batches: int, samples: int) -> None: ...
    def row(self, row: MetricsRow, best: bool) -> None: ...


class Fit:
    """Runs on their way through their epochs; `run` is its one entry.

    Holds what the moments of the loop share, so that each is a short method: the population, its data, the limits.
    The runs of a population are at the same step at any moment. A run leaves it when it ends.

    Args:
        pause_at: epochs after which all stop for now, to go on later as if they had not.
    """

    def __init__(
        self,
        population: Population,
        train: Batches,
        valid: Batches,
        saver: Saver,
        report: Report,
        signals: Signals,
        pause_at: int | None = None,
    ) -> None:
        self.pause_at = pause_at
        self.population, self.train, self.valid = population, train, valid
        self.saver, self.report, self.signals = saver, report, signals
        self.members = list(population.states)
        self.outcomes: dict[RunState, Outcome] = {}
        self.config = self.members[0].config  # what is asked for here, all have in common
        self.validate_every = Duration.parse(self.config.validate_every)
        self.clock = time.perf_counter()
        self.told = {state: sum(row.seconds for row in state.history) for state in self.members}  # in rows so far

    def run(self) -> list[Outcome]:
        """Trains until each run has a reason to stop, which is returned in the order in which they came.

        Saves a run at its end, also when interrupted, but never what is not finite.
        """
        first, epochs = self.members[0], max(state.config.epochs for state in self.members)
        per_epoch = len(self.train)
        self.report.begin(first, first.epoch * per_epoch + first.batch, epochs * per_epoch)
        gc.freeze()  # what the imports made is here to stay: not to be looked through at every collection
        try:
            self._epochs(first.epoch, epochs)
        except Interrupted:
            self._end(dict.fromkeys(self.population.states, Outcome("interrupted", "interrupted")))
        finally:
            gc.unfreeze()
        return [self.outcomes[state] for state in self.members]

    def _epochs(self, start: int, end: int) -> None:
        self._settle()  # what was due when it was stopped
        self.population.train()
        for epoch in range(start, end):
            if not self.population.states:
                return
            if self.config.unfreeze_at is not None and epoch >= self.config.unfreeze_at:
                self.population.unfreeze()
            for batches in grouped(self.train.epoch(epoch, self.population.states[0].batch), self.config.accumulate):
                self.signals.check()
                self._step(batches)
                self._settle()
                if not self.population.states:
                    return

    def _step(self, batches: list[Batch]) -> None:
        try:
            train_step(self.population, batches)
        except NonFinite as what:
            self._lose(what)
            update(self.population)
        for state in self.population.states:
            state.batch += len(batches)
            if state.batch >= len(self.train):
                state.epoch, state.batch = state.epoch + 1, 0
                state.schedule.after_epoch()
        if not self.population.states:
            return
        lead = self.population.states[0]
        if lead.step % LOOK_EVERY == 0:
            self._look()
        self.report.advance(lead, len(batches), sum(self.population.samples(targets) for _, targets in batches))

    def _settle(self) -> None:
        """Validates, saves and lets go whom it is the moment for."""
        due = [s for s in self.population.states if self._validation_due(s) and s.validated_step != s.step]
        if due:
            self._validate(due)
            self.population.train()
        self._count_time()
        if self.population.states and self.saver.due(self.population.states[0]):
            try:
                self.saver.save_all(self.population.states)
            except NonFinite as what:
                self._lose(what)
        stopping = {
            state: reason
            for state in self.population.states
            if (reason := reason_to_stop(state, self.pause_at, time.perf_counter() - self.clock))
        }
        if stopping:
            self._finish(stopping)

    def _finish(self, stopping: dict[RunState, Outcome]) -> None:
        """The last validation of those that want one, and their end."""
        unseen = [
            state
            for state, reason in stopping.items()
            if state.validated_step != state.step
            and reason.status != "paused"  # goes on as if it had not been
            and (state.best is None or reason.final)
        ]
        if unseen:
            self._validate(unseen)
            self.population.train()
        stopping = {state: reason for state, reason in stopping.items() if state not in self.outcomes}
        for state in stopping:
            if state.config.debug.overfit and not learned(state):
                stopping[state] = not_learned(state)
        self._end(stopping)

    def _end(self, ending: dict[RunState, Outcome]) -> None:
        """Saves what is finite; these runs leave."""
        self._count_time()
        self.population.remove(ending.keys())
        for state, reason in ending.items():
            if state.step and reason.status != "diverged":
                try:
                    self.saver.save(state)
                except NonFinite as what:
                    reason = diverged(state, what)
            if reason.status == "diverged":
                self.saver.save_best(state)
            self.outcomes[state] = reason

    def _look(self) -> None:
        """Lets go those whose training loss was not finite; waits for the device."""
        if lost := self.population.sums.nonfinite_runs():
            self._lose(NonFinite("the training loss is", lost))

    def _lose(self, what: NonFinite) -> None:
        states = [self.population.states[run] for run in what.runs]
        self._end({state: diverged(state, what) for state in states})

    def _validation_due(self, state: RunState) -> bool:
        if state.step == 0:
            return state.config.baseline
        if state.batch == 0 and state.epoch >= state.config.epochs:
            return True
        if self.validate_every.unit == "st":
            return state.step % self.validate_every.amount == 0
        return state.batch == 0 and state.epoch % self.validate_every.amount == 0

    def _validate(self, due: Collection[RunState]) -> None:
        """Evaluates, judges and reports; mutates the states only once nothing can fail any more."""
        self._look()
        if not any(state in due for state in self.population.states):
            return
        self.population.eval()
        outputs, targets = evaluate(self.population.outputs, self.valid, self.signals, self.population.batch_axis)
        losses, figures = self.population.losses(outputs, targets), self.population.figures(outputs, targets)
        self._count_time()
        lost = []
        for run, state in enumerate(self.population.states):
            if state in due and math.isfinite(losses[run]):
                valid = {"loss": losses[run], **figures[run]}
                self._report(state, self.population.sums.result(run), valid)
            elif state in due:
                lost.append(run)
        if lost:
            self._lose(NonFinite("the validation loss is", lost))

    def _report(self, state: RunState, train: dict[str, Any], valid: dict[str, Any]) -> None:
        seconds, self.told[state] = state.seconds - self.told[state], state.seconds
        row = MetricsRow(
            state.epoch,
            state.step,
            state.lr or state.optimizer.param_groups[0]["lr"],
            train | {f"valid_{name}": value for name, value in valid.items()},
            seconds,
            int(state.sums.count_R) / seconds,
        )
        state.sums.reset()
        state.validated_step = state.step
        is_best = self._judge(state, row)
        state.history.append(row)
        self.report.row(row, is_best)

    def _judge(self, state: RunState, row: MetricsRow) -> bool:
        value = row[state.config.monitor]
        if value is None:  # training figures before training, or a figure that these samples do not define
            return False
        state.schedule.after_validation(value)
        sign = 1 if DIRECTIONS[state.config.monitor] == "max" else -1
        better = state.best is None or sign * (value - state.best.value) > state.config.min_delta
        if better:
            state.best = Best(value, state.epoch, state.step, state.weights(), row)
        state.num_bad_validations = 0 if better else state.num_bad_validations + 1
        return better

    def _count_time(self) -> None:
        """Each run's share of the time that has gone by."""
        now = time.perf_counter()
        for state in self.population.states:
            state.seconds += (now - self.clock) / len(self.population.states)
        self.clock = now


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
