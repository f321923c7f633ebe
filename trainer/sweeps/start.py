"""`train -m ...` and `train resume=SWEEP`: from words to a sweep; all mistakes are told before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from trainer.config.compose import Composer, Job
from trainer.config.keys import SweepConfig
from trainer.errors import Problem, UserError
from trainer.records.compare import differing_keys, varying
from trainer.records.folder import OUTPUTS, new_folder
from trainer.records.ledger import FINAL, Ledger
from trainer.stack.checkpoint import restore_members
from trainer.stack.choose import Stacks, choose, hint
from trainer.sweeps.executor import Sweep, new_entries
from trainer.sweeps.grid import compose_jobs, not_a_job_key, stored_job
from trainer.sweeps.plan import Plan, plan, validate
from trainer.sweeps.search import Search, examples
from trainer.sweeps.settings import ResumeOverrides, changed, check, is_sampled, settings_of, typed
from trainer.sweeps.workers import wait_for


def new_sweep(
    composer: Composer, words: list[str], problems: list[Problem], command: list[str], launcher: Sequence[str] = ()
) -> int:
    """Composes, validates and runs the jobs that `words` stand for; returns the exit code.

    Args:
        launcher: overrides of Hydra's launcher, which then runs the jobs.

    Raises:
        UserError: before anything was written.
    """
    if is_sampled(composer, words):
        return _new_study(composer, words, problems, command, launcher)
    jobs = compose_jobs(composer, words, problems)
    settings = settings_of(jobs)
    check(jobs, settings, launcher, sampled=False)
    prepared = _prepared(jobs, settings)
    if settings.dry_run:
        return _shown(jobs, settings, prepared)
    stacks = _stacks(jobs, range(len(jobs)), settings, prepared)
    with closing(Ledger.create(new_folder("sweep", OUTPUTS), words)) as ledger:
        ledger.add(new_entries(jobs, varying(jobs)))
        ledger.stack(stacks.jobs, stacks.lines)
        return Sweep(ledger, jobs, settings, prepared, command, launcher=launcher).run()


def _new_study(
    composer: Composer, words: list[str], problems: list[Problem], command: list[str], launcher: Sequence[str]
) -> int:
    """A sweep whose jobs a sampler chooses one by one."""
    some = examples(composer, words, problems)
    settings = settings_of(some)
    check(some, settings, launcher, sampled=True)
    jobs = some[:1] * (settings.trials or 1)
    prepared = _prepared(jobs, settings, also=some)
    if settings.dry_run:
        return _shown(jobs, settings, prepared)
    with closing(Ledger.create(new_folder("sweep", OUTPUTS), words)) as ledger:
        search = Search(ledger.folder, composer, words, some[0].config.monitor, settings)
        return Sweep(ledger, [], settings, prepared, command, search=search).run()


def resumed_sweep(
    composer: Composer,
    folder: Path,
    words: list[str],
    problems: list[Problem],
    command: list[str],
    launcher: Sequence[str] = (),
) -> int:
    """Runs what is missing of a sweep, and the jobs that further words add; returns the exit code.

    Raises:
        UserError: nothing was changed.
    """
    given = typed(composer, words, problems)
    with closing(Ledger.open(folder)) as ledger:
        if not given.trust and "oc.env" in " ".join(ledger.words):
            raise UserError(f"{folder}: its words read environment variables. If you trust it, add trust=true.")
        jobs = [stored_job(entry, ledger.folder, given.trust) for entry in ledger.entries]
        if jobs[0].config.sweep.sampler != "none" if jobs else is_sampled(composer, ledger.words):
            return _resumed_study(composer, ledger, jobs, given, command, launcher)
        added = _added(composer, ledger, given.jobs)
        settings = changed(settings_of([*jobs, *added]), composer, given.settings)
        check([*jobs, *added], settings, launcher, sampled=False)
        missing = [*_unfinished(ledger, jobs), *added]
        prepared = _prepared(missing, settings, trusted=given.trust) if missing else None
        if settings.dry_run:
            return _shown(missing, settings, prepared)
        if prepared is None:
            print(f"{folder}: all {len(jobs)} jobs are finished. More jobs: train -m resume={folder} key=values")
        ledger.add(new_entries(added, varying([*jobs, *added])[len(jobs) :], start=len(jobs)) if added else [])
        jobs += added
        _continue_stacks(ledger, jobs, settings, prepared, trusted=given.trust, anew=given.sets("sweep.stack"))
        return Sweep(ledger, jobs, settings, prepared, command, given.trust, launcher=launcher).run()


def _resumed_study(
    composer: Composer,
    ledger: Ledger,
    jobs: list[Job],
    given: ResumeOverrides,
    command: list[str],
    launcher: Sequence[str],
) -> int:
    """What is missing of a study: jobs that were under way, and trials that it has not asked for yet."""
    if given.jobs:
        raise UserError(f"{' '.join(given.jobs.values())}: a study's jobs are its own; start a new sweep.")
    some = examples(composer, ledger.words, ())
    settings = changed(settings_of(jobs or some), composer, given.settings)
    check(some, settings, launcher, sampled=True)
    missing = [*_unfinished(ledger, jobs), *some[:1] * max((settings.trials or 0) - len(jobs), 0)]
    prepared = _prepared(missing, settings, trusted=given.trust, also=some) if missing else None
    if settings.dry_run:
        return _shown(missing, settings, prepared)
    if prepared is None:
        print(f"{ledger.folder}: all {len(jobs)} jobs are finished. More: train resume={ledger.folder} sweep.trials=N")
    search = Search(ledger.folder, composer, ledger.words, some[0].config.monitor, settings)
    return Sweep(ledger, jobs, settings, prepared, command, given.trust, search=search).run()


def _unfinished(ledger: Ledger, jobs: Sequence[Job]) -> list[Job]:
    return [job for job, entry in zip(jobs, ledger.entries, strict=True) if entry.state not in FINAL]


def _shown(jobs: Sequence[Job], settings: SweepConfig, prepared: Plan | None) -> int:
    """Prints what would be trained; returns the exit code."""
    if prepared is None:
        print("all jobs are finished")
        return 0
    from trainer.sweeps.estimate import show_plan

    return show_plan(jobs, settings, prepared)


def _added(composer: Composer, ledger: Ledger, given: dict[str, str]) -> list[Job]:
    """The jobs that further words stand for and that are not there yet; all, where a sweep was killed at its start.

    Raises:
        UserError: a word would change nothing but jobs that are there, which keep what they began with.
    """
    if not given and not ledger.lost:
        return []
    kept = [word for word in ledger.words if word.lstrip("+~").partition("=")[0] not in given]
    known = {entry.id: entry.stored for entry in ledger.entries}
    jobs = compose_jobs(composer, [*kept, *given.values()])
    changes = [differing_keys(known[job.id], job.stored) for job in jobs if job.id in known]
    problems = {not_a_job_key(key, change[key]): None for change in changes for key in change if key in given}
    if problems:
        raise UserError(*problems)
    return [job for job in jobs if job.id not in known]


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
    for note in restore_members(ledger.folder, {entry.name: entry.state not in FINAL for entry in ledger.entries}):
        print(note)
    known = stacked if anew else {number for stack in ledger.stacks for number in stack}
    open_ones = [e.number for e in ledger.entries if e.state not in FINAL and e.number not in known]
    if prepared is not None and open_ones:
        stacks = _stacks([jobs[number] for number in open_ones], open_ones, settings, prepared, trusted=trusted)
        ledger.stack(stacks.jobs, stacks.lines)


def _prepared(jobs: Sequence[Job], settings: SweepConfig, *, trusted: bool = True, also: Sequence[Job] = ()) -> Plan:
    """How the jobs are run, once each and `also` these are known to be able to."""
    prepared = plan(jobs, settings)
    validate([*jobs, *also], prepared, trusted=trusted)
    return prepared
