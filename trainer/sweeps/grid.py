"""The jobs of a sweep: composed, told apart, named."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.config.compose import Composer, HydraException, Job, finish, gist
from trainer.config.overrides import leaves_of
from trainer.config.schema import is_free_on_resume
from trainer.config.stored import refuse_interpolation
from trainer.errors import Problem, UserError, show
from trainer.records.compare import differing_keys
from trainer.records.ledger import Entry

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

LONGEST_NAME = 100


def compose_jobs(composer: Composer, words: Sequence[str], problems: Sequence[Problem] = ()) -> list[Job]:
    """The jobs of every combination of values, in the order in which the words vary: the last one fastest.

    A configuration that comes twice is one job.

    Raises:
        UserError: with the problems of all jobs, each told once; some differ in what does not tell jobs apart.
    """
    overrides, found = composer.read(words, sweep=True)
    swept = composer.sweep_of(overrides) or {}
    given = {override.key_or_group for override in overrides}
    more, wrong = composer.read([f"{k}={v}" for k, v in swept.items() if k not in given], sweep=True)
    told = dict.fromkeys([*problems, *found, *wrong, *swept_sweep_keys(overrides)])
    read: dict[str, list[Override]] = {}  # each word once, not once per job
    values = []
    for override in [*overrides, *more]:
        texts = [override.input_line or ""]
        if override.is_sweep_override():
            texts = _each(override, told)
        for text in texts:
            read[text], wrong = composer.read([text], sweep=False)
            told |= dict.fromkeys(wrong)
        values.append(texts)
    jobs: dict[str, Job] = {}
    found_in: dict[Problem, set[str]] = {}  # each problem, and the experiments that have it
    experiments: dict[str, None] = {}
    differing: dict[str, list[Any]] = {}  # keys that do not tell jobs apart, with the values that they were given
    for combination in itertools.product(*values):
        job = composer.job([override for text in combination for override in read[text]])
        experiments[job.choices.get("experiment", "")] = None
        for problem in job.problems:
            found_in.setdefault(problem, set()).add(job.choices.get("experiment", ""))
        job.id = identity(job)
        for key, those in differing_keys(jobs.setdefault(job.id, job).stored, job.stored).items():
            one = differing.setdefault(key, [])
            one += [value for value in those if value not in one]
    told |= dict.fromkeys(_placed(found_in, list(experiments)))
    told |= {not_a_job_key(key, those): None for key, those in differing.items()}
    if told:
        raise UserError(*told)
    return list(jobs.values())


def swept_sweep_keys(overrides: Sequence[Override]) -> list[Problem]:
    """Return a problem for each of the sweep's own keys that is given several values."""
    return [
        Problem(
            override.input_line or "",
            "it is the whole sweep's and cannot differ from job to job",
            command=f"{override.key_or_group}={next(override.sweep_string_iterator(), '...')}",
        )
        for override in overrides
        if override.is_sweep_override() and override.key_or_group.partition(".")[0] == "sweep"
    ]


def _placed(found_in: dict[Problem, set[str]], experiments: Sequence[str]) -> Iterator[Problem]:
    """Problems with the experiments that have them, where others have them not; and how to leave these out."""
    unfit: set[str] = set()
    for problem, those in found_in.items():
        if len(those) == len(experiments):
            yield problem
        else:
            yield problem.within(f"experiment={','.join(sorted(those))}")
            unfit |= those
    fit = [name for name in experiments if name not in unfit]
    if unfit and fit:
        command = f"'experiment=glob(*,exclude=[{','.join(sorted(unfit))}])'"
        reason = f"{len(fit)} of {len(experiments)} can run as they are"
        yield Problem("experiment", reason, advice="To leave the others out", command=command)


def _each(override: Override, told: dict[Problem, None]) -> list[str]:
    """A word for each value; none, and a problem, where there is nothing to list."""
    word, key = override.input_line or "", override.key_or_group
    try:
        texts = [f"{key}={value}" for value in override.sweep_string_iterator()]
    except (HydraException, TypeError, ValueError) as error:
        told[Problem(word, gist(error), advice="Write values, key=a,b, or key=range(3).")] = None
        return []
    if not texts:
        told[Problem(word, "there is nothing in it")] = None
    return texts


def identity(job: Job) -> str:
    """A digest of all that decides a job's result; two jobs with the same one are the same job."""
    leaves = {key: value for key, value in leaves_of(job.stored) if not is_free_on_resume(key)}
    return blake2b(json.dumps(leaves, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()


def not_a_job_key(key: str, values: Sequence[Any]) -> Problem:
    """Return the problem that values of a key make no jobs of their own."""
    reason = (
        "cannot differ from job to job: a run may go on with any of these, so jobs that nothing else sets apart are one"
    )
    return Problem(key, reason, given=",".join(map(show, values)), advice="Give one value.")


def names(varies: Sequence[dict[str, Any]], start: int = 0) -> list[str]:
    """A folder's name for each job: its number and what sets it apart, in characters that every file system takes."""
    width = max(len(str(start + len(varies) - 1)), 3)
    named = []
    for number, told in enumerate(varies, start):
        text = ",".join(f"{key}={_short(value)}" for key, value in told.items())
        safe = re.sub(r"[^A-Za-z0-9.,=_-]+", "_", text)
        named.append(f"{number:0{width}}-{safe}"[:LONGEST_NAME].rstrip("-.,_"))
    return named


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def stored_job(entry: Entry, folder: Path, trust: bool) -> Job:
    """The job that a ledger holds.

    Raises:
        UserError: it is not whole, or reads environment variables and is not trusted.
    """
    where = folder / f"sweep.jsonl, job {entry.number}"
    if not trust:
        refuse_interpolation(str(entry.stored), where)
    try:
        tree = OmegaConf.create({**entry.stored, "trust": trust})  # no file may say that it is to be trusted
        job = finish(tree, entry.choices, entry.overrides)
    except (OmegaConfBaseException, RecursionError, AttributeError, TypeError) as error:
        raise UserError(Problem(str(where), f"no configuration ({gist(error)})")) from error
    if job.problems:
        raise UserError(*(problem.within(where) for problem in job.problems))
    return job
