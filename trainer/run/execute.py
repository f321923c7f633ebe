"""From a job to a finished run: build or restore its components, train, test, write its folder."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from trainer.components.assemble import Components, assemble
from trainer.config.job import Job
from trainer.data.loader import DataCache
from trainer.errors import Problem, UserError
from trainer.records.folder import RunFolder
from trainer.report.console import StatusBar
from trainer.run.run import Command, Run
from trainer.signals import Interrupted, Signals
from trainer.trackers.base import external_destination
from trainer.training.checkpoint import Checkpoint, load_newest


@dataclass(frozen=True)
class SweepContext:
    """What is different for a job of a sweep.

    Attributes:
        place: Its folder, which exists already.
        trusted: Whether its configuration may name code outside of this program.
        pause_at: Epochs after which it pauses.
        shared: Data that other jobs of the same process use too.
    """

    place: Path
    trusted: bool
    pause_at: int | None = None
    shared: DataCache | None = None


def execute(job: Job, command: Command, *, resume: Path | None = None, sweep: SweepContext | None = None) -> int:
    """Train and test a run, write its folder, and return the exit code.

    Args:
        job: The job, without problems.
        command: How the program was started.
        resume: The folder of the run to continue.
        sweep: Set for a job of a sweep, be it new or continued.

    Raises:
        UserError: The job cannot be built. No file was written.
        RunFailed: The run could not continue.
    """
    trusted = job.config.trust or (sweep.trusted if sweep else resume is None)
    _refuse_destination(job, trusted=trusted or (sweep is None and _types_logger(job)))
    with Signals() as signals, ExitStack() as stack:
        place = sweep.place if sweep else resume
        folder = stack.enter_context(closing(RunFolder(place))) if place else None
        saved, notes = load_newest(folder.checkpoints) if folder else (None, [])
        shared = sweep.shared if sweep else None
        try:
            with StatusBar(signals.check) as progress:
                components = assemble(job.config, trusted=trusted, saved=saved, cache=shared, progress=progress)
        except Interrupted:
            return signals.exit_code
        if saved:
            restore(components, saved)
        if signals.received is not None:  # nothing is there yet that could be saved
            return signals.exit_code
        if folder is None:
            name = job.config.name or f"{job.choices.get('data', 'data')}-{job.choices.get('model', 'model')}"
            folder = stack.enter_context(closing(RunFolder.create(name)))
        with Run(job, components, folder, command, resumed=saved is not None, in_sweep=sweep is not None) as run:
            for note in notes:
                run.console.note(note)
            run.begin(time.perf_counter() - command.started)
            outcome = run.train(signals, sweep.pause_at if sweep else None)
            return run.finish(outcome, signals)


def restore(components: Components, saved: Checkpoint) -> None:
    """Bring a built run to the state of a checkpoint.

    Raises:
        UserError: The run was trained on other data.
    """
    config = components.config
    if saved.metadata["fingerprint"] != components.data.fingerprint and not config.resume_force:
        reason = "the data is not what this run was trained on so far"
        advice = "Restore it, or add resume_force=true."
        raise UserError(Problem("data.root", reason, given=str(config.data.root), advice=advice))
    assert saved.run is not None
    components.state.load_state_dict(saved.run, schedule=not config.resume_force)
    if config.resume_force:
        components.state.schedule.replay(components.state.step, components.state.epoch)


def _types_logger(job: Job) -> bool:
    return any(word.startswith("logger") for word in job.overrides)


def _refuse_destination(job: Job, *, trusted: bool) -> None:
    """Check that a stored configuration does not send results to another machine.

    Raises:
        UserError: It does, and it is not trusted.
    """
    logger = job.config.logger
    if not trusted and (elsewhere := external_destination(logger)):
        raise UserError(
            Problem(
                "logger",
                f"the stored configuration sends results to {elsewhere}",
                given=logger.name,
                advice="If that is meant, type it again (logger=... logger.uri=...) or add trust=true; "
                "logger=csv keeps them here.",
            )
        )
