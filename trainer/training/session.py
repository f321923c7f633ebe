"""Work of the training loop between two steps: validating, saving, and ending runs."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence

from trainer.data.batches import Batch
from trainer.records.metrics import MetricsRow
from trainer.signals import Signals
from trainer.training.evaluate import evaluate
from trainer.training.interfaces import Report, Saver, TrainingData
from trainer.training.phases import phase
from trainer.training.population import Population
from trainer.training.state import Best, RunState
from trainer.training.step import nonfinite_runs
from trainer.training.stopping import Outcome, diverged, learned, not_learned, reason_to_stop

LOOK_EVERY = 50  # steps between checks of the losses on a GPU, because each check synchronises


class Session:
    """One call of `fit`: its clock, the work that is due after a step, and the outcomes of its runs."""

    def __init__(
        self,
        population: Population,
        data: TrainingData,
        saver: Saver,
        report: Report,
        signals: Signals,
        pause_at: int | None = None,
    ) -> None:
        self.population, self.data, self.saver, self.report = population, data, saver, report
        self.signals, self.pause_at = signals, pause_at
        self.members = list(population.states)
        self.config = self.members[0].config  # identical for all runs in the keys that are used here
        self.validate_every = self.config.validate_every
        self.ended: dict[RunState, Outcome] = {}
        self.clock = time.perf_counter()
        self.reported = {state: sum(row.seconds for row in state.history) for state in self.members}

    @property
    def batch(self) -> int:
        """Finished batches of the current epoch."""
        return self.population.states[0].batch

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes of all runs, once all have ended."""
        return [self.ended[state] for state in self.members]

    def begin(self) -> None:
        """Do the work that was due when the run stopped, validate before the first step, and enter training mode."""
        first, epochs = self.members[0], max(state.config.epochs for state in self.members)
        batches = len(self.data.train)
        self.report.begin(first, first.epoch * batches + first.batch, epochs * batches)
        self.validate()
        self.save()
        self.stop()
        self.population.train()

    @property
    def epochs(self) -> range:
        """The epochs that are left."""
        states = self.population.states
        return range(states[0].epoch, max(state.config.epochs for state in states)) if states else range(0)

    def unfreeze(self, epoch: int) -> None:
        """Unfreeze all frozen parameters and modules if `epoch` has reached `unfreeze_at`."""
        if self.config.unfreeze_at is not None and epoch >= self.config.unfreeze_at:
            for state in self.population.states:
                state.frozen.unfreeze()
            self.population.train()

    def count(self, batches: Sequence[Batch], lost: Collection[RunState]) -> None:
        """Count the batches of a step, and end the runs whose loss was not finite in it."""
        self._diverge(lost, "the training loss is")
        for state in self.population.states:
            state.batch += len(batches)
            if state.batch >= len(self.data.train):
                state.epoch, state.batch = state.epoch + 1, 0
                state.schedule.after_epoch()
        if not self.population.states:
            return
        first, axis = self.population.states[0], self.population.batch_axis
        if first.step % LOOK_EVERY == 0:
            self._check_losses()
        self.report.advance(first, len(batches), sum(targets.shape[axis] for _, targets in batches))

    def validate(self) -> None:
        """Validate the runs that are due."""
        due = [s for s in self.population.states if s.validated_step != s.step and self._validation_due(s)]
        if due:
            self._validate(due)
        self._count_time()

    def save(self) -> None:
        """Write a checkpoint if one is due; end the runs whose weights are not finite."""
        if self.population.states and self.saver.due(self.population.states[0]):
            with phase("saving"):
                lost = self.saver.save_all(self.population.states)
            self._diverge(lost, "the weights are")

    def stop(self) -> None:
        """End the runs that have a reason to stop, after a last validation if they lack one."""
        since = time.perf_counter() - self.clock
        stopping = {
            state: outcome
            for state in self.population.states
            if (outcome := reason_to_stop(state, self.pause_at, since))
        }
        if not stopping:
            return
        unvalidated = [
            state
            for state, outcome in stopping.items()
            if state.validated_step != state.step
            and outcome.status != "paused"  # it continues later as if it had not paused
            and (state.best is None or outcome.final)
        ]
        if unvalidated:
            self._validate(unvalidated)
        stopping = {state: outcome for state, outcome in stopping.items() if state not in self.ended}
        for state in stopping:
            if state.config.debug.overfit and not learned(state):
                stopping[state] = not_learned(state)
        self._end(stopping)

    def end(self, status: str, reason: str) -> None:
        """Save and end all runs between two steps."""
        self._end(dict.fromkeys(self.population.states, Outcome(status, reason)))

    def _end(self, ending: Mapping[RunState, Outcome]) -> None:
        """Remove these runs from the population, save them, and keep their outcomes."""
        self._count_time(ending)
        self.population.remove(ending.keys())
        for state, outcome in ending.items():
            with phase("saving"):
                if state.step and outcome.status != "diverged" and not self.saver.save(state):
                    outcome = diverged(state, "the weights are")
                if outcome.status == "diverged":
                    self.saver.save_best(state)
            self.ended[state] = outcome

    def _diverge(self, lost: Collection[RunState], cause: str) -> None:
        """End these runs as diverged; `cause` says what is not finite, as in "the weights are"."""
        if lost:
            self._end({state: diverged(state, cause) for state in lost})

    def _check_losses(self) -> None:
        """End the runs whose training loss was not finite. Synchronises with the device."""
        self._diverge(nonfinite_runs(self.population), "the training loss is")

    def _validation_due(self, state: RunState) -> bool:
        if state.step == 0:
            return state.config.baseline
        if state.batch == 0 and state.epoch >= state.config.epochs:
            return True
        if self.validate_every.unit == "st":
            return state.step % self.validate_every.amount == 0
        return state.batch == 0 and state.epoch % self.validate_every.amount == 0

    def _validate(self, due: Collection[RunState]) -> None:
        """Evaluate the population and report the runs that are due; states change only after all is evaluated."""
        self._check_losses()
        if not any(state in due for state in self.population.states):
            return
        with phase("validation"):
            population = self.population
            population.eval()
            outputs, targets = evaluate(population.outputs, self.data.valid, self.signals, population.batch_axis)
            metrics = population.metrics(outputs, targets)
            self._count_time()
            lost = []
            for run, state in enumerate(self.population.states):
                if state in due and math.isfinite(metrics[run]["loss"] or 0.0):
                    self._report(state, self.population.sums.result(run), metrics[run])
                elif state in due:
                    lost.append(state)
            self.population.train()
        self._diverge(lost, "the validation loss is")

    def _report(self, state: RunState, train: dict[str, float | None], valid: dict[str, float | None]) -> None:
        """Add a row to the history of a run, judge it, and report it."""
        seconds, self.reported[state] = state.seconds - self.reported[state], state.seconds
        row = MetricsRow(
            state.epoch,
            state.step,
            float(state.lr or state.optimizer.param_groups[0]["lr"]),  # `optim.lr=1` is an int until it is read back
            train | {f"valid_{name}": value for name, value in valid.items()},
            seconds,
            int(state.sums.count_R) / seconds,
        )
        state.sums.reset()
        state.validated_step = state.step
        is_best = self._judge(state, row)
        state.history.append(row)
        self.report.row(row, is_best)
        if state.step:
            with phase("saving"):
                self.saver.keep(state)

    def _judge(self, state: RunState, row: MetricsRow) -> bool:
        """Return whether a validation is the best of its run so far; step the schedule, and count it if it is not."""
        value = row[state.config.monitor]
        if value is None:  # a training metric before the first step, or a metric that these samples do not define
            return False
        state.schedule.after_validation(value)
        sign = 1 if state.config.direction == "max" else -1
        better = state.best is None or sign * (value - state.best.value) > state.config.min_delta
        if better:
            state.best = Best(value, state.epoch, state.step, state.weights(), row)
        state.num_bad_validations = 0 if better else state.num_bad_validations + 1
        return better

    def _count_time(self, leaving: Collection[RunState] = ()) -> None:
        """Add each run's equal share of the time since the last call to its seconds."""
        now, states = time.perf_counter(), self.population.states
        sharing = {*states, *leaving} if leaving else states
        for state in sharing:
            state.seconds += (now - self.clock) / len(sharing)
        self.clock = now
