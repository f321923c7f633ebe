"""A run with built components: header, training, test, results."""

from __future__ import annotations

import time
import traceback
from dataclasses import replace
from types import TracebackType
from typing import Any

from trainer.components.assemble import Components
from trainer.components.feed import evaluation_batches
from trainer.components.metadata import CheckpointMetadata
from trainer.config.job import Job
from trainer.config.overrides import leaves_of
from trainer.config.schema import Config
from trainer.config.stored import StoredConfig
from trainer.data.metrics import SplitReport
from trainer.errors import out_of_memory
from trainer.records.contents import exists
from trainer.records.folder import RunFolder
from trainer.records.samples import SPLIT
from trainer.records.summary import write_summary
from trainer.report.console import Console, StatusBar
from trainer.report.run_page import write_page
from trainer.run import details, first_batch, results, samples
from trainer.run.closing import next_command, remarks
from trainer.run.command import Command
from trainer.run.gradients import FILE, Advice, GradientLog
from trainer.run.journal import Journal
from trainer.run.profiling import Profile
from trainer.run.summary import summarise
from trainer.signals import Interrupted, Signals
from trainer.trackers.base import SafeTracker, open_tracker
from trainer.training.evaluate import evaluate_and_report
from trainer.training.interfaces import Report, TrainingData
from trainer.training.loop import fit
from trainer.training.saver import Saver
from trainer.training.state import RunState
from trainer.training.stopping import Outcome

EXIT_CODES = {"completed": 0, "paused": 0, "early_stopped": 0, "diverged": 1, "failed": 1}


class Run:
    """A run and its folder; it is trained here or was trained in a stack.

    Use it as a context manager: on entering it opens train.log, and an exception that leaves it is recorded in
    results.json. Call `begin`, then `train` unless a stack did, then `finish`.

    Args:
        job: the job. The run's own copy stores the number of threads and no resume keys.
        components: the built run, restored if it is resumed.
        folder: its folder, in which config.yaml is written.
        command: how the program was started.
        resumed: whether a checkpoint was restored.
        in_sweep: whether it is a job of a sweep, whose console is silent.
    """

    def __init__(
        self, job: Job, components: Components, folder: RunFolder, command: Command, *, resumed: bool, in_sweep: bool
    ) -> None:
        stored = {**job.stored, "threads": components.threads, "resume": None, "resume_force": False}
        self.job, self.components, self.folder = replace(job, stored=stored), components, folder
        self.command, self.resumed, self.in_sweep = command, resumed, in_sweep
        self.config_text = folder.write_config(StoredConfig(stored, job.choices))
        self.setup = self.testing = 0.0
        self.has_results = False
        self.gradients: GradientLog | None = None
        self.tracker: SafeTracker | None = None

    @property
    def state(self) -> RunState:
        """The state of the run."""
        return self.components.state

    @property
    def config(self) -> Config:
        """The configuration of the run."""
        return self.components.config

    def __enter__(self) -> Run:
        self.console = Console(self.folder.path / "train.log", quiet=self.in_sweep or self.command.quiet)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and not self.has_results:
            sentence = out_of_memory(error)
            if sentence:
                traceback.clear_frames(trace)  # what they hold may be needed now
            outcome = Outcome("failed", sentence or f"{type(error).__name__}: {error}")
            if isinstance(error, KeyboardInterrupt):  # a second Ctrl-C, in another program's process
                outcome = Outcome("interrupted", "interrupted twice; the newest checkpoint has the last state")
            self._write_results(outcome, None)
        self.console.close()

    def checkpoint_metadata(self) -> dict[str, Any]:
        """Return the metadata of the run's checkpoints, as plain values."""
        run = self.components
        metadata = CheckpointMetadata.of_run(
            self.config_text, run.data, run.preprocessing, run.num_outputs, run.class_weights
        )
        return metadata.to_dict()

    def saver(self) -> Saver:
        """Return the writer of the run's checkpoints."""
        settings = self.config.checkpoint
        return Saver(self.folder.checkpoints, settings.every, self.checkpoint_metadata(), settings.keep)

    def begin(self, setup: float) -> None:
        """Print the header, start metrics.csv, and open the tracker; `setup` is the seconds spent before."""
        self.setup = setup
        self.console.header(results.header(self.job, self.components, self.folder.path))
        if self.resumed:
            self.console.say(f"resumed    after {self.state.epoch} epochs and {self.state.step} steps")
        if self.job.config.resume_force or not exists(self.folder.path / SPLIT):
            samples.write_split(self.folder.path, self.components.data)
        self.folder.start_metrics(self.components.data.task.columns, self.state.history)
        logger, path, step = self.config.logger, self.folder.path, self.state.step
        leaves = list(leaves_of(self.job.stored))
        self.tracker = SafeTracker(logger.name, lambda: open_tracker(logger, path, leaves, step), self.console.note)

    def train(self, signals: Signals, pause_at: int | None = None) -> Outcome:
        """Train until the run ends, or pauses after epoch `pause_at`, and return its outcome."""
        components, state = self.components, self.state
        try:
            with StatusBar(signals.check, quiet=self.command.quiet) as progress:
                components.cache_features(("train", "valid"), progress)
        except Interrupted:
            return Outcome("interrupted", "interrupted")
        if state.watch is not None:
            path = self.folder.path / FILE
            advice = Advice(self.config, state.steps_per_epoch)
            self.gradients = GradientLog(state.watch, path, state.history, advice, self.console.note)
        data, saver = TrainingData(components.train, components.valid), self.saver()
        journal: Report = Journal(self.console, self.folder, self.gradients, self.tracker)
        if not self.config.debug.profile:
            [outcome] = fit(components.population, data, saver, journal, signals, pause_at)
            return outcome
        assert self.config.max_steps is not None
        with Profile(self.config.max_steps, components.device, self.folder.path) as profile:
            [outcome] = fit(components.population, data, saver, profile.counting(journal), signals, pause_at)
        self.console.end_progress()
        for line in ("", *profile.report(self.config.batch_size * self.config.accumulate)):
            self.console.say(line)
        return outcome

    def replay(self, first: int, best: set[int]) -> None:
        """Report the rows of a run trained in a stack, from row `first` on; `best` has the `id` of each new best."""
        for row in self.state.history[first:]:
            self.console.row(row, id(row) in best)
            if self.tracker is not None:
                self.tracker.row(row)

    def finish(self, outcome: Outcome, signals: Signals) -> int:
        """Test the best weights, write results.json and the report page, and return the exit code."""
        self.console.end(outcome.reason)
        self._end_gradients(outcome)
        test, begin, splits = None, time.perf_counter(), self.components.data.splits
        has_test = self.config.test is not False and not self.config.debug.overfit and "test" in splits
        if has_test and outcome.status in ("completed", "early_stopped"):
            try:
                test = self._test(signals)
            except Interrupted:
                outcome = Outcome("interrupted", "interrupted while testing")
            self.testing = time.perf_counter() - begin
        self._write_results(outcome, test)
        if self.config.plots is not False and outcome.status not in ("interrupted", "paused"):
            first_batch.draw_first_batch(self.folder.path, self.components)
            write_summary(self.folder.path, summarise(self.components))
            write_page(self.folder.path)
        has_weights = exists(self.folder.checkpoints / "best.pt")
        command = None
        if not self.in_sweep:
            for name, line in remarks(self.job, self.components, outcome, self.folder.path):
                self.console.say(f"{name:<10} {line}")
            command = next_command(self.job, self.components, outcome, self.folder.path, resumed=self.resumed)
        self.console.next(self.folder.path, has_weights, command)
        return EXIT_CODES.get(outcome.status, signals.exit_code)

    def _write_results(self, outcome: Outcome, test: SplitReport | None) -> None:
        training = self.state.seconds
        seconds = {
            "total": self.setup + training + self.testing,
            "setup": self.setup,
            "training": training,
            "testing": self.testing,
        }
        summary = results.summary(
            self.components, outcome, test, seconds=seconds, command=self.command.words, overrides=self.job.overrides
        )
        self.folder.write_results(summary)
        self.has_results = True
        if self.tracker is not None:
            self.tracker.end(summary)

    def _end_gradients(self, outcome: Outcome) -> None:
        """Write the last steps of a run that diverged, which no validation reported, and draw the picture."""
        if self.gradients is None:
            return
        if outcome.status == "diverged":
            self.gradients.row(self.state.epoch + (self.state.batch > 0), self.state.step, None)
        self.gradients.close()
        if self.config.plots is not False and outcome.status != "interrupted":
            self.gradients.draw()

    def _test(self, signals: Signals) -> SplitReport:
        """Test the best weights, write details.json and draw the pictures; return the `test` block of results.json."""
        components, best = self.components, self.state.best
        assert best is not None
        self.state.evaluated.load_state_dict(best.weights)
        with StatusBar(signals.check, quiet=self.command.quiet) as progress:
            components.cache_features(("test",), progress)
        data = components.data
        batches = evaluation_batches(
            self.config.batch_size, data, "test", components.loading, components.features.get("test")
        )
        population = components.population
        population.eval()
        evaluation = evaluate_and_report(population.outputs, population.criterion, data.task, batches, signals)
        outputs_NC = evaluation.outputs_NC.cpu()
        self.console.test(evaluation.report, self.state.best_moment)
        details.write(self.folder.path, data.task, data.splits["test"], outputs_NC)
        samples.write_predictions(self.folder.path, data.task, data.splits["test"], outputs_NC)
        if self.config.plots is not False:
            results.draw(self.folder.path, components, evaluation.report, outputs_NC)
        return evaluation.report
