"""`train -m ...` and `train resume=SWEEP`: from words to a sweep; all mistakes are told before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from trainer.compose import Composer, Job
from trainer.config import Duration
from trainer.errors import UserError
from trainer.folder import OUTPUTS, new_folder
from trainer.keys import SweepConfig
from trainer.stack.choose import Stacks, choose, hint
from trainer.stack.files import deal_out
from trainer.sweep.executor import Sweep, new_entries
from trainer.sweep.jobs import compose_jobs, stored_job, varying
from trainer.sweep.ledger import FINAL, Ledger
from trainer.sweep.search import Search, first_job
from trainer.sweep.validate import Plan, plan, validate
from trainer.sweep.workers import wait_for

SAMPLED = "sweep.sampler=tpe"


def new_sweep(
    composer: Composer, words: list[str], problems: list[str], command: list[str], launcher: Sequence[str] = ()
) -> int:
    """Composes, validates and runs the jobs that `words` stand for; returns the exit code.

    Args:
        launcher: overrides of Hydra's launcher, which then runs the jobs.

    Raises:
        UserError: before anything was written.
    """
    sampled = SAMPLED in words
    jobs = [first_job(composer, words, problems)] if sampled else compose_jobs(composer, words, problems)
    settings = _settings(jobs)
    _refuse_pairs(settings, launcher)
    prepared = _prepared(jobs * (settings.trials or 1) if sampled else jobs, settings)
    if settings.dry_run:
        from trainer.sweep.estimate import show_plan

        return show_plan(jobs * (settings.trials or 1) if sampled else jobs, prepared)
    _refuse_uncomparable(jobs, settings)
    stacks = _stacks(jobs, range(len(jobs)), settings, prepared)
    with closing(Ledger.create(new_folder("sweep", OUTPUTS), words)) as ledger:
        if sampled:
            search = Search(ledger.folder, composer, words, jobs[0].config.monitor, settings)
            return Sweep(ledger, [], settings, prepared, command, search=search).run()
        ledger.add(new_entries(jobs, varying(jobs)))
        ledger.stack(stacks.jobs, stacks.lines)
        return Sweep(ledger, jobs, settings, prepared, command, launcher=launcher).run()


def resumed_sweep(
    composer: Composer,
    folder: Path,
    words: list[str],
    problems: list[str],
    command: list[str],
    launcher: Sequence[str] = (),
) -> int:
    """Runs what is missing of a sweep, and the jobs that further words add; returns the exit code.

    Raises:
        UserError: nothing was changed.
    """
    overrides, found = composer.read(words, sweep=True)
    if problems or found:
        raise UserError(*problems, *found)
    given = {o.key_or_group: o.input_line or "" for o in overrides if o.key_or_group != "resume"}
    trust = given.pop("trust", "") == "trust=true"
    about_sweep = [word for key, word in given.items() if key.startswith("sweep.")]
    about_jobs = {key: word for key, word in given.items() if word not in about_sweep}
    with closing(Ledger.open(folder)) as ledger:
        sampled = SAMPLED in ledger.words
        if not trust and "oc.env" in " ".join(ledger.words):
            raise UserError(f"{folder}: its words read environment variables. If you trust it, add trust=true.")
        jobs = [stored_job(entry, ledger.folder, trust) for entry in ledger.entries]
        added = [] if sampled else _added(composer, ledger, about_jobs)
        if sampled and about_jobs:
            raise UserError(f"{' '.join(about_jobs.values())}: a study's jobs are its own; start a new sweep.")
        examples = [*jobs, *added] or [first_job(composer, ledger.words, ())]
        settings = _settings(examples, composer, about_sweep)
        _refuse_pairs(settings, launcher)
        _refuse_uncomparable(examples, settings)
        search = None
        if sampled:
            search = Search(ledger.folder, composer, ledger.words, examples[0].config.monitor, settings)
        missing = [job for job, e in zip(jobs, ledger.entries, strict=True) if e.state not in FINAL] + added
        missing += examples[:1] * (max(search.trials - len(jobs), 0) if search else 0)
        prepared = _prepared(missing, settings, trusted=trust) if missing else None
        if prepared is None:
            print(f"{folder}: all {len(jobs)} jobs are finished. More jobs: train -m resume={folder} key=values")
        ledger.add(new_entries(added, varying([*jobs, *added])[len(jobs) :], start=len(jobs)) if added else [])
        anew = any(word.startswith("sweep.stack=") for word in about_sweep)
        _continue_stacks(ledger, [*jobs, *added], settings, prepared, trusted=trust, anew=anew)
        sweep = Sweep(ledger, [*jobs, *added], settings, prepared, command, trust, launcher=launcher, search=search)
        return sweep.run()


def _added(composer: Composer, ledger: Ledger, given: dict[str, str]) -> list[Job]:
    """The jobs that further words stand for and that are not there yet; all, where a sweep was killed at its start."""
    if not given and not ledger.lost:
        return []
    kept = [word for word in ledger.words if word.lstrip("+~").partition("=")[0] not in given]
    known = {entry.id for entry in ledger.entries}
    return [job for job in compose_jobs(composer, [*kept, *given.values()]) if job.id not in known]


def _settings(jobs: Sequence[Job], composer: Composer | None = None, words: Sequence[str] = ()) -> SweepConfig:
    """The sweep's own keys, which all jobs share, `words` set over them.

    Raises:
        UserError: they differ from job to job.
    """
    settings = jobs[0].config.sweep
    if any(job.config.sweep != settings for job in jobs):
        raise UserError("sweep: its keys are the whole sweep's; they cannot differ from job to job.")
    if composer is None or not words:
        return settings
    job = composer.job(composer.read(words, sweep=False)[0])
    if job.problems:
        raise UserError(*job.problems)
    changed = {word.partition("=")[0].removeprefix("sweep.").partition(".")[0] for word in words}
    return replace(settings, **{name: getattr(job.config.sweep, name) for name in changed})


def _refuse_pairs(settings: SweepConfig, launcher: Sequence[str]) -> None:
    if launcher and (settings.halving.factor or settings.sampler != "none" or settings.stack != "false"):
        raise UserError("hydra/launcher: halving, samplers and stacks need the program's own workers; leave it out.")
    if settings.stack != "false" and settings.sampler != "none":
        raise UserError("sweep.stack: a sampler asks for one job at a time; leave one of the two out.")
    if settings.halving.factor and settings.sampler != "none":
        raise UserError("sweep.halving: a sampler has no rungs; choose one of the two.")


def _stacks(
    jobs: Sequence[Job], numbers: Sequence[int], settings: SweepConfig, prepared: Plan, *, trusted: bool = True
) -> Stacks:
    """Which of these jobs are trained in one pass; says so."""
    if settings.stack == "false":
        if prepared.light and (line := hint(jobs)):
            print(line)
        return Stacks()
    stacks = choose(jobs, numbers, settings.stack, prepared.devices, prepared.shared, trusted=trusted)
    for line in stacks.lines:
        print(line)
    return stacks


def _continue_stacks(
    ledger: Ledger, jobs: Sequence[Job], settings: SweepConfig, prepared: Plan | None, *, trusted: bool, anew: bool
) -> None:
    """Deals out what killed stacks have left; jobs that nothing was decided of yet may come into new ones.

    Args:
        anew: jobs that were to be trained one by one, too.
    """
    stacked = {number for stack in ledger.stacks if len(stack) > 1 for number in stack}
    for number in stacked:
        wait_for(ledger.folder / ledger.entries[number].name)
    for note in deal_out(ledger.folder, {entry.name: entry.state not in FINAL for entry in ledger.entries}):
        print(note)
    known = stacked if anew else {number for stack in ledger.stacks for number in stack}
    open_ones = [e.number for e in ledger.entries if e.state not in FINAL and e.number not in known]
    if prepared is not None and open_ones:
        stacks = _stacks([jobs[number] for number in open_ones], open_ones, settings, prepared, trusted=trusted)
        ledger.stack(stacks.jobs, stacks.lines)


def _refuse_uncomparable(jobs: Sequence[Job], settings: SweepConfig) -> None:
    if settings.halving.factor is None:
        return
    monitors = sorted({job.config.monitor for job in jobs})
    if len(monitors) > 1:
        raise UserError(f"monitor={','.join(monitors)}: sweep.halving compares jobs by one column.")
    for every in (Duration.parse(job.config.validate_every) for job in jobs):
        if every.unit == "ep" and every.amount > settings.halving.min_epochs:
            raise UserError(
                f"sweep.halving.min_epochs={settings.halving.min_epochs}: no job is validated by then; expected "
                f"at least {every.amount}, as validate_every={every.amount}ep has it."
            )


def _prepared(jobs: Sequence[Job], settings: SweepConfig, *, trusted: bool = True) -> Plan:
    prepared = plan(jobs, settings)
    validate(jobs, prepared, trusted=trusted)
    return prepared
