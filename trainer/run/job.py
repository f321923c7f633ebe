"""The words of a single run become its job, or all that is wrong with them at once. Imports torch where it must."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trainer.config.compose import Composer, Job
from trainer.errors import Problem, UserError


def new_job(composer: Composer, words: Iterable[str], problems: Sequence[Problem] = ()) -> Job:
    """The job of these words.

    Raises:
        UserError: with all problems, `problems` first; those included that only a target's signature or the machine
            can show, where something stands that only they can judge.
    """
    overrides, found = composer.read(words, sweep=False)
    job = composer.job(overrides)
    found += job.problems + of_sweeps(job)
    if problems or found:
        raise UserError(*problems, *found, *_deep_problems(job))
    return job


def of_sweeps(job: Job) -> list[Problem]:
    """Return a problem for each key of this single run that only a sweep can follow."""
    settings = job.config.sweep
    problems: list[Problem] = []
    if settings.dry_run:
        reason = "it shows the jobs of a sweep, and this is a single run"
        problems.append(Problem("sweep.dry_run", reason, given="true", command="train -m ..."))
    if settings.sampler != "none":
        reason = "it chooses the jobs of a sweep, and this is a single run"
        problems.append(Problem("sweep.sampler", reason, given=settings.sampler, command="train -m ..."))
    return problems


def _deep_problems(job: Job) -> list[Problem]:
    """What only torch can tell of this job's device and of parts that are not as shipped."""
    asks_device = job.config.device not in ("auto", "cpu")
    if not (job.unusual or asks_device):
        return []
    from trainer import device
    from trainer.components.targets import find_targets

    _, problems = find_targets(job.config, sorted(job.unusual), trusted=True)  # the words are the user's own
    if asks_device:
        try:
            device.choose(job.config.device)
        except UserError as error:
            problems += error.problems
    return problems
