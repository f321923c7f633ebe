"""The jobs of a grid: from overrides with several values to one composed configuration for each combination."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.config.compose import Composer, HydraException
from trainer.config.effects import tells_jobs_apart
from trainer.config.job import Job, finish, gist
from trainer.config.overrides import leaves_of
from trainer.config.stored import refuse_interpolation
from trainer.errors import Problem, UserError, show
from trainer.records.compare import differing_keys
from trainer.records.ledger import Entry

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

LONGEST_NAME = 100


@dataclass(frozen=True)
class SweepOverrides:
    """The words of a command line, parsed once.

    Attributes:
        words: the words as typed.
        parsed: one override for each valid word.
        problems: problems of the other words.
        experiment: keys and values that the chosen experiment sweeps over by itself; None if it does not sweep.
    """

    words: list[str]
    parsed: list[Override]
    problems: list[Problem]
    experiment: dict[str, str] | None


def read_overrides(composer: Composer, words: Sequence[str], problems: Sequence[Problem] = ()) -> SweepOverrides:
    """Parse the words of a sweep; `problems` are those that the command line is known to have."""
    parsed, unreadable = composer.read(words, sweep=True)
    return SweepOverrides(list(words), parsed, [*problems, *unreadable], composer.sweep_of(parsed))


def compose_jobs(composer: Composer, overrides: SweepOverrides) -> list[Job]:
    """Return the jobs of all combinations of values, without duplicates; the last key varies fastest.

    Raises:
        UserError: with the problems of all jobs, each once. Jobs that differ only in keys that do not distinguish jobs
            are a problem, too.
    """
    choices, problems = _choices(composer, overrides)
    combinations = itertools.product(*choices)
    composed = [composer.job([override for chosen in each for override in chosen]) for each in combinations]
    jobs: dict[str, Job] = {}
    differing: dict[str, list[Any]] = {}  # values of keys that differ between jobs of one identity
    for job in composed:
        digest = identity(job)
        first = jobs.setdefault(digest, replace(job, id=digest))
        for key, values in differing_keys(first.stored, job.stored).items():
            seen = differing.setdefault(key, [])
            seen += [value for value in values if value not in seen]
    problems += [*_problems_of(composed), *(not_a_job_key(key, values) for key, values in differing.items())]
    if problems:
        raise UserError(*dict.fromkeys(problems))
    return list(jobs.values())


def _choices(composer: Composer, overrides: SweepOverrides) -> tuple[list[list[list[Override]]], list[Problem]]:
    """Return the values of each key as parsed overrides, none if they are invalid, and all problems so far."""
    typed = {override.key_or_group for override in overrides.parsed}
    preset = [f"{key}={value}" for key, value in (overrides.experiment or {}).items() if key not in typed]
    more, unreadable = composer.read(preset, sweep=True)
    problems = [*overrides.problems, *unreadable, *swept_sweep_keys(overrides.parsed)]
    choices = []
    for override in [*overrides.parsed, *more]:
        if not override.is_sweep_override():
            choices.append([[override]])
            continue
        try:
            words = [f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()]
            if not words:
                problems.append(Problem(override.input_line or "", "it has no values"))
        except (HydraException, TypeError, ValueError) as error:
            advice, words = "Write values, key=a,b, or key=range(3).", []
            problems.append(Problem(override.input_line or "", gist(error), advice=advice))
        choices.append([])
        for word in words:
            value, unreadable = composer.read([word], sweep=False)
            choices[-1].append(value)
            problems += unreadable
    return choices, problems


def _problems_of(jobs: Sequence[Job]) -> Iterator[Problem]:
    """Yield the problems of jobs; a problem of only some of the experiments names them."""
    affected: dict[Problem, set[str]] = {}
    for job in jobs:
        for problem in job.problems:
            affected.setdefault(problem, set()).add(job.choices.get("experiment", ""))
    experiments = {job.choices.get("experiment", "") for job in jobs}
    unfit: set[str] = set()
    for problem, those in affected.items():
        if those == experiments:
            yield problem
        else:
            yield problem.within(f"experiment={','.join(sorted(those))}")
            unfit |= those
    num_fit = len(experiments - unfit)
    if unfit and num_fit:
        reason = f"{num_fit} of {len(experiments)} can run as they are"
        command = f"'experiment=glob(*,exclude=[{','.join(sorted(unfit))}])'"
        yield Problem("experiment", reason, advice="To leave the others out", command=command)


def swept_sweep_keys(overrides: Sequence[Override]) -> list[Problem]:
    """Return a problem for each of the sweep's own keys that is given several values."""
    return [
        Problem(
            override.input_line or "",
            "it belongs to the whole sweep and cannot differ from job to job",
            command=f"{override.key_or_group}={next(override.sweep_string_iterator(), '...')}",
        )
        for override in overrides
        if override.is_sweep_override() and override.key_or_group.partition(".")[0] == "sweep"
    ]


def not_a_job_key(key: str, values: Sequence[Any]) -> Problem:
    """Return the problem that different values of a key do not make different jobs."""
    reason = (
        "cannot differ from job to job: a run may continue with any of these values, so jobs that differ in nothing "
        "else are one"
    )
    return Problem(key, reason, given=",".join(map(show, values)), advice="Give one value.")


def identity(job: Job) -> str:
    """Return a digest of everything that determines a job's result; jobs with the same digest are the same job."""
    leaves = {key: value for key, value in leaves_of(job.stored) if tells_jobs_apart(key)}
    return blake2b(json.dumps(leaves, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()


def names(varies: Sequence[Mapping[str, object]], start: int = 0) -> list[str]:
    """Return a folder name for each job: its number and what sets it apart, in characters safe on any file system."""
    width = max(len(str(start + len(varies) - 1)), 3)
    folder_names = []
    for number, varying in enumerate(varies, start):
        text = ",".join(f"{key}={_short(value)}" for key, value in varying.items())
        safe = re.sub(r"[^A-Za-z0-9.,=_-]+", "_", text)
        folder_names.append(f"{number:0{width}}-{safe}"[:LONGEST_NAME].rstrip("-.,_"))
    return folder_names


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def stored_job(entry: Entry, folder: Path, trust: bool) -> Job:
    """Return the job that a ledger entry holds.

    Raises:
        UserError: the configuration is incomplete, or reads environment variables without `trust`.
    """
    where = folder / f"sweep.jsonl, job {entry.number}"
    if not trust:
        refuse_interpolation(str(entry.stored), where)
    try:
        tree = OmegaConf.create({**entry.stored, "trust": trust})  # a file must not declare itself trusted
        job = finish(tree, entry.choices, entry.overrides)
    except (OmegaConfBaseException, RecursionError, AttributeError, TypeError) as error:
        raise UserError(Problem(str(where), f"not a valid configuration ({gist(error)})")) from error
    if job.problems:
        raise UserError(*(problem.within(where) for problem in job.problems))
    return job
