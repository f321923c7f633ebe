"""The job of a single run, from the words of its command line. Imports torch only for checks that need it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trainer.config.compose import Composer
from trainer.config.job import Job
from trainer.errors import Problem, UserError


def new_job(composer: Composer, words: Iterable[str], problems: Sequence[Problem] = ()) -> Job:
    """Return the job of overrides such as `optim.lr=0.1`; `problems` of the command line are reported with its own.

    Raises:
        UserError: all problems at once. If there are any, the device and targets that differ from the shipped ones
            are checked too, which imports torch.
    """
    overrides, word_problems = composer.read(words, sweep=False)
    job = composer.job(overrides)
    problems = [*problems, *word_problems, *job.problems, *sweep_problems(job)]
    if problems:
        raise UserError(*problems, *_deep_problems(job, {problem.key.partition(".")[0] for problem in problems}))
    return job


def sweep_problems(job: Job) -> list[Problem]:
    """Return a problem for each key of this single run that applies only to sweeps."""
    settings = job.config.sweep
    problems: list[Problem] = []
    if settings.dry_run:
        reason = "it lists the jobs of a sweep, but this is a single run"
        problems.append(Problem("sweep.dry_run", reason, given="true", command="train -m ..."))
    if settings.sampler is not None:
        reason = "it chooses the jobs of a sweep, but this is a single run"
        problems.append(Problem("sweep.sampler", reason, given=settings.sampler, command="train -m ..."))
    return problems


def _deep_problems(job: Job, reported: set[str]) -> list[Problem]:
    """Return the problems of the device and of groups that differ from the shipped ones, which need torch to check.

    A group of which a problem was `reported` is left out: it would be refused again, in other words.
    """
    names_device = job.config.device not in (None, "cpu")
    altered = job.altered - reported
    if not (altered or names_device):
        return []
    from trainer import device
    from trainer.components.targets import find_targets

    _, problems = find_targets(job.config, sorted(altered), trusted=True)  # the user typed them
    if names_device:
        try:
            device.choose(job.config.device)
        except UserError as error:
            problems += error.problems
    return problems
