"""One run from its parts to its results: resume, fit, test, files."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.components import metadata as description
from trainer.components.assemble import Components, assemble, evaluation_batches
from trainer.components.loss import loss_weights, num_outputs
from trainer.components.optimizer import schedule_depends_on_epochs
from trainer.config.compose import Job
from trainer.config.overrides import leaves_of
from trainer.config.schema import Config
from trainer.data.loader import DataCache
from trainer.data.metrics import SplitReport
from trainer.errors import UserError
from trainer.records.folder import RunFolder
from trainer.records.metrics import MetricsRow
from trainer.records.results import write_results
from trainer.report.console import Console, StatusBar
from trainer.report.run_page import write_page
from trainer.run import details, results
from trainer.run.gradients import FILE, GradientLog
from trainer.run.profiling import Profile
from trainer.signals import Interrupted, Signals
from trainer.trackers.base import SafeTracker, external_destination, opener
from trainer.training import checkpoint
from trainer.training.evaluate import evaluate_and_report
from trainer.training.loop import Fit
from trainer.training.stopping import Outcome

EXIT_CODES = {"completed": 0, "paused": 0, "early_stopped": 0, "diverged": 1, "failed": 1}


@dataclass(frozen=True)
class SweepContext:
    """What is different for a job of a sweep.

    Attributes:
        place: its folder, which is there already.
        trusted: whether its configuration may name code of others.
        pause_at: epochs after which it stops for now.
        shared: data that other jobs of the same process use too.
    """

    place: Path
    trusted: bool = True
    pause_at: int | None = None
    shared: DataCache | None = None


def execute(
    job: Job, resume: Path | None = None, *, command: list[str], started: float, sweep: SweepContext | None = None
) -> int:
    """Trains, tests and writes a run folder; returns the exit code.

    Args:
        resume: the folder of the run to continue.
        started: time.perf_counter() when the program began.
        sweep: the run is a job of a sweep: a new one, or one to be continued.

    Raises:
        UserError: nothing was done and no file left behind.
        RunFailed: the run could not go on.
    """
    config = job.config
    place = sweep.place if sweep else resume
    trusted = config.trust or (sweep.trusted if sweep else resume is None)
    typed = sweep is None and any(word.startswith("logger") for word in job.overrides)
    if (elsewhere := external_destination(config.logger)) and not trusted and not typed:
        raise UserError(
            f"logger={config.logger.name}: the stored configuration sends results to {elsewhere}. If that is meant, "
            "type it again (logger=... logger.uri=...) or add trust=true; logger=csv keeps them here."
        )
    with Signals() as signals, ExitStack() as stack:
        folder = stack.enter_context(closing(RunFolder(place))) if place else None
        saved, notes = checkpoint.load_newest(folder.checkpoints) if folder else (None, [])
        try:
            with StatusBar(signals.check) as progress:
                parts = assemble(
                    config, trusted=trusted, saved=saved, shared=sweep.shared if sweep else None, progress=progress
                )
        except Interrupted:
            return signals.exit_code
        if saved:
            restore(parts, saved, config)
        if signals.received is not None:  # before there was anything to save
            return signals.exit_code
        if folder is None:
            name = config.name or f"{job.choices.get('data', 'data')}-{job.choices.get('model', 'model')}"
            folder = stack.enter_context(closing(RunFolder.create(name)))
        run = Run(
            job,
            parts,
            folder,
            signals,
            command=command,
            started=started,
            resumed=saved is not None,
            in_sweep=sweep is not None,
            pause_at=sweep.pause_at if sweep else None,
        )
        stack.enter_context(closing(run.console))
        for note in notes:
            run.console.note(note)
        return run.run()


def restore(parts: Components, saved: dict[str, Any], config: Config) -> None:
    """Brings the parts to where a checkpoint was.

    Raises:
        UserError: the data is another.
    """
    if saved["fingerprint"] != parts.data.fingerprint and not config.resume_force:
        raise UserError(
            f"data.root={config.data.root}: the data is not what this run was trained on so far. "
            "Restore it, or add resume_force=true."
        )
    parts.state.load_state_dict(saved["run"], schedule=not config.resume_force)
    if config.resume_force:
        parts.state.schedule.replay(parts.state.step, parts.state.epoch)


def describe(job: Job, parts: Components, folder: RunFolder) -> dict[str, Any]:
    """What each checkpoint holds besides the run's state; also writes the run's config.yaml."""
    job.stored.update(threads=parts.threads, resume=None, resume_force=False)
    return description.describe(
        folder.write_config(job.stored, job.choices),
        parts.data,
        parts.wanted,
        num_outputs(job.config, parts.data.task),
        loss_weights(job.config, parts.data),
    )


class Run:
    """A prepared run and its folder, from the header to the results."""

    def __init__(
        self,
        job: Job,
        parts: Components,
        folder: RunFolder,
        signals: Signals,
        *,
        command: list[str],
        started: float,
        resumed: bool,
        in_sweep: bool = False,
        pause_at: int | None = None,
        about: dict[str, Any] | None = None,
    ) -> None:
        self.job, self.parts, self.folder, self.signals = job, parts, folder, signals
        self.config, self.command, self.started, self.resumed = job.config, command, started, resumed
        self.in_sweep, self.pause_at = in_sweep, pause_at
        self.console = Console(folder.path / "train.log", quiet=in_sweep)
        self.gradients: GradientLog | None = None
        self.about = about or describe(job, parts, folder)
        self.tracker: SafeTracker | None = None

    def run(self, fit: Callable[[], Outcome] | None = None) -> int:
        """The whole of it; returns the exit code.

        Args:
            fit: trains it, where that is not its own affair.
        """
        state = self.parts.state
        self.console.header(results.header(self.job, self.parts, self.folder.path))
        if self.resumed:
            self.console.say(f"resumed    after {state.epoch} epochs and {state.step} steps")
        setup = time.perf_counter() - self.started
        outcome, test, testing = Outcome("failed", ""), None, 0.0
        try:
            self.folder.start_metrics(self.parts.data.task.columns, state.history)
            open_tracker = opener(self.config.logger, self.folder.path, list(leaves_of(self.job.stored)), state.step)
            self.tracker = SafeTracker(self.config.logger.name, open_tracker, self.console.note)
            outcome = fit() if fit else self._fit()
            self.console.end(outcome.reason)
            self._end_gradients(outcome)
            begin = time.perf_counter()
            if outcome.status in ("completed", "early_stopped") and self._tests():
                test = self._test()
            testing = time.perf_counter() - begin
        except Interrupted:
            outcome = Outcome("interrupted", "interrupted while testing")
        except BaseException as error:
            outcome = Outcome("failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            seconds = {
                "total": setup + state.seconds + testing,
                "setup": setup,
                "training": state.seconds,
                "testing": testing,
            }
            typed = {"command": self.command, "overrides": self.job.overrides}
            told = results.summary(self.parts, outcome, test, seconds=seconds, **typed)
            write_results(self.folder.path, told)
            if self.tracker is not None:
                self.tracker.end(told)
        if self.config.plots != "false" and outcome.status not in ("interrupted", "paused"):
            write_page(self.folder.path)
        has_weights = (self.folder.checkpoints / "best.pt").exists()
        self.console.next(self.folder.path, has_weights, self._next_command(outcome))
        return EXIT_CODES.get(outcome.status, self.signals.exit_code)

    def _next_command(self, outcome: Outcome) -> str | None:
        """What the user may want to type after this outcome."""
        resume = f"train resume={shlex.quote(str(self.folder.path))}"
        if outcome.status == "interrupted" or not outcome.final:
            return resume
        if self.resumed or self.in_sweep or self.config.debug.overfit or self.config.debug.profile:
            return None
        if outcome.status == "completed" and not schedule_depends_on_epochs(self.config):
            return f"{resume} epochs={2 * self.config.epochs}"
        if outcome.status in ("completed", "early_stopped"):
            words = [word for word in self.job.overrides if not word.startswith(("seed=", "resume="))]
            return f"{shlex.join(['train', *words, f'seed={self.config.seed + 1}'])}   (how much of it is chance?)"
        return None

    def _fit(self) -> Outcome:
        saver = checkpoint.Saver(self.folder.checkpoints, self.config.checkpoint.every, self.about)
        parts, console = self.parts, self.console
        with StatusBar(self.signals.check) as progress:
            parts.keep_features(("train", "valid"), progress)
        if parts.state.watch is not None:
            path = self.folder.path / FILE
            self.gradients = GradientLog(parts.state.watch, path, parts.state.history, self.config, console.note)
        journal = Journal(console, self.folder, self.gradients, self.tracker)
        fit = Fit(parts.population, parts.train, parts.valid, saver, journal, self.signals, self.pause_at)
        if not self.config.debug.profile:
            return fit.run()[0]
        assert self.config.max_steps is not None
        with Profile(self.config.max_steps, parts.device, self.folder.path) as profile:
            profile.attach(parts.population, parts.train, saver, journal)
            [outcome] = fit.run()
        console.end_progress()
        for line in ("", *profile.report(self.config.batch_size * self.config.accumulate)):
            console.say(line)
        return outcome

    def _end_gradients(self, outcome: Outcome) -> None:
        """The last steps of a run that diverged, which no validation reported, and the picture."""
        if self.gradients is None:
            return
        state = self.parts.state
        if outcome.status == "diverged":
            self.gradients.row(state.epoch + (state.batch > 0), state.step, None)
        self.gradients.close()
        if self.config.plots != "false" and outcome.status != "interrupted":
            self.gradients.draw()

    def _tests(self) -> bool:
        return self.config.test != "false" and not self.config.debug.overfit

    def _test(self) -> SplitReport:
        """Tests the best weights, once, and draws the pictures."""
        parts, best = self.parts, self.parts.state.best
        assert best is not None
        parts.state.evaluated.load_state_dict(best.weights)
        with StatusBar(self.signals.check) as progress:
            parts.keep_features(("test",), progress)
        batches = evaluation_batches(self.config, parts.data, "test", parts.loading, parts.kept.get("test"))
        solo = parts.population
        solo.eval()
        tested = evaluate_and_report(solo.outputs, solo.criterion, parts.data.task, batches, self.signals)
        report, outputs_NC = tested.report, tested.outputs_NC.cpu()
        self.console.test(report, best.epoch)
        details.write(self.folder.path, parts.data.task, parts.data.splits["test"], outputs_NC)
        if self.config.plots != "false":
            results.draw(self.folder.path, parts, report, outputs_NC)
        return report


class Journal:
    """What the loop reports goes to the console, to metrics.csv, to gradients.csv and to a tracker."""

    def __init__(
        self,
        console: Console,
        folder: RunFolder,
        gradients: GradientLog | None = None,
        tracker: SafeTracker | None = None,
    ) -> None:
        self.begin, self.advance = console.begin, console.advance
        self.console, self.folder, self.gradients, self.tracker = console, folder, gradients, tracker

    def row(self, row: MetricsRow, best: bool) -> None:
        self.folder.add_metrics(row)
        self.console.row(row, best)
        if self.gradients is not None:
            self.gradients.row(row.epoch, row.step, row["train_loss"])
        if self.tracker is not None:
            self.tracker.row(row)
