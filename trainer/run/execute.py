"""Execution of a job: build or restore its components, train, test, and write its folder."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from trainer.components.assemble import Components, assemble
from trainer.components.objects import is_object
from trainer.config.job import Job
from trainer.data.loader import DataCache
from trainer.errors import Problem, UserError, show
from trainer.records.folder import RunFolder, new_folder
from trainer.report.console import StatusBar
from trainer.run.changes import refuse_other_configuration
from trainer.run.command import Command, Ended
from trainer.run.run import Run
from trainer.signals import Interrupted, Signals
from trainer.trackers.base import external_destination
from trainer.training.checkpoint import Checkpoint, load_newest


@dataclass(frozen=True)
class SweepContext:
    """The settings that a sweep adds to a job or a stack.

    Attributes:
        folder: the folder of the job or the stack, which exists already.
        trusted: whether the configuration may import code from outside this program.
        pause_at: epochs after which training pauses.
        shared: data that other jobs of the same process use too.
    """

    folder: Path
    trusted: bool
    pause_at: int | None = None
    shared: DataCache | None = None


def execute(job: Job, command: Command, *, resume: Path | None = None, sweep: SweepContext | None = None) -> Ended:
    """Train and test a run, write its folder, and return how it ended.

    Args:
        job: the job, which has no problems.
        command: how the program was started.
        resume: the folder of the run to continue.
        sweep: settings of the sweep to which the job belongs; None for a single run.

    Raises:
        UserError: the job cannot be built. No file was written.
        RunFailed: the run could not continue.
    """
    trusted = job.config.trust or (sweep.trusted if sweep else resume is None)
    named = sweep is None and any(word.startswith("logger") for word in job.overrides)
    _refuse_destination(job, trusted=trusted or named)
    with Signals(ends_process=not command.embedded) as signals, ExitStack() as stack:
        path = sweep.folder if sweep else resume
        folder = stack.enter_context(closing(RunFolder(path))) if path else None
        saved, notes = load_newest(folder.checkpoints) if folder else (None, [])
        shared = sweep.shared if sweep else None
        try:
            with StatusBar(signals.check, quiet=command.quiet) as progress:
                components = assemble(job.config, trusted=trusted, saved=saved, cache=shared, progress=progress)
        except Interrupted:
            return Ended(signals.exit_code, None, signals.received)
        if saved and folder:
            refuse_other_configuration(folder.path, str(saved.metadata["config"]), job)
            restore(components, saved)
        if signals.received is not None:  # there is nothing to save yet
            return Ended(signals.exit_code, None, signals.received)
        if folder is None:
            name = job.config.name or f"{job.choices.get('data', 'data')}-{job.choices.get('model', 'model')}"
            folder = stack.enter_context(closing(RunFolder(new_folder(name, job.config.output))))
        with Run(job, components, folder, command, resumed=saved is not None, in_sweep=sweep is not None) as run:
            for note in notes:
                run.console.note(note)
            run.begin(time.perf_counter() - command.started)
            outcome = run.train(signals, sweep.pause_at if sweep else None)
            return Ended(run.finish(outcome, signals), folder.path, signals.received)


def restore(components: Components, saved: Checkpoint) -> None:
    """Restore the state of newly built components from a checkpoint.

    Raises:
        UserError: the run was trained on other data, or on other splits of it.
    """
    config = components.config
    if saved.metadata["fingerprint"] != components.data.fingerprint and not config.resume_force:
        reason = "the data is not what this run was trained on"
        advice = "Restore it, or add resume_force=true."
        if is_object(config.data.target):
            raise UserError(Problem("data", reason, advice="Pass the same data, or add resume_force=true."))
        path = config.data.arguments.get("path")
        key, place = ("data.path", path) if path else ("data.root", config.data.root)
        raise UserError(Problem(key, reason, given=str(place), advice=advice))
    if saved.metadata["splits"] != components.data.splits_digest and not config.resume_force:
        reason = "the samples are divided otherwise than when this run began"
        advice = "Restore the file or column that divides them, or add resume_force=true."
        raise UserError(Problem("data.split_file", reason, given=show(config.data.split_file), advice=advice))
    assert saved.run is not None
    components.state.load_state_dict(saved.run, schedule=not config.resume_force)
    if config.resume_force:
        components.state.schedule.replay(components.state.step, components.state.epoch)


def _refuse_destination(job: Job, *, trusted: bool) -> None:
    """Check that a stored configuration does not send results to another machine.

    Raises:
        UserError: it does, and it is not trusted.
    """
    logger = job.config.logger
    if not trusted and (destination := external_destination(logger)):
        raise UserError(
            Problem(
                "logger",
                f"the stored configuration sends results to {destination}",
                given=logger.name,
                advice="If this is intended, repeat it on the command line (logger=... logger.uri=...) or add "
                "trust=true; logger=csv keeps them on this machine.",
            )
        )
