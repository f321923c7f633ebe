"""A single run from its words to its end: new, resumed, or finished already. Imports torch only to train."""

from __future__ import annotations

from pathlib import Path

from trainer.config.compose import Composer
from trainer.config.job import Job
from trainer.errors import Problem, printable
from trainer.run.command import Command, Ended
from trainer.run.job import new_job
from trainer.run.resume import complete, is_finished, resumed_job


def read_job(composer: Composer, words: list[str], problems: list[Problem]) -> tuple[Job, Path | None]:
    """Return the job of these overrides, and the folder of the run that `resume=` among them names.

    Raises:
        UserError: all problems at once, those of the command line in `problems` among them.
    """
    if any(word.startswith("resume=") for word in words):
        return resumed_job(composer, words, problems)
    return new_job(composer, words, problems), None


def run_job(job: Job, folder: Path | None, command: Command) -> Ended:
    """Train a job, or complete the files of a run that is finished.

    Args:
        job: the job.
        folder: the folder of the run that it continues; None for a new run.
        command: how the program was started.

    Raises:
        UserError: the job cannot be built.
        RunFailed: the run could not continue.
    """
    if folder is None or not is_finished(folder, job):
        from trainer.run.execute import execute

        return execute(job, command, resume=folder)
    lines = [f"written    {written}, which was missing" for written in complete(folder, job)]
    more = f"More epochs: train resume={folder} epochs=N"
    lines.append(f"{folder}: the run is finished, nothing is left to do. {more}")
    for line in lines if not command.quiet else ():
        print(printable(line))
    return Ended(0, folder)
