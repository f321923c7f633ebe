"""`train -m ...` and `train resume=SWEEP`: from overrides to a running sweep.

All mistakes are reported before anything is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from trainer.config.compose import Composer
from trainer.config.job import Job
from trainer.config.sweep_keys import SweepConfig
from trainer.errors import Problem, UserError, printable
from trainer.records.compare import differing_keys, varying
from trainer.records.folder import new_folder
from trainer.records.ledger import FINAL, Ledger
from trainer.run.command import Ended
from trainer.signals import Signals
from trainer.stack.checkpoint import restore_members
from trainer.stack.choose import Stacks, choose, hint
from trainer.sweeps.estimate import show_plan
from trainer.sweeps.executor import run_sweep
from trainer.sweeps.grid import SweepOverrides, compose_jobs, not_a_job_key, read_overrides, stored_job
from trainer.sweeps.plan import Plan, make_plan
from trainer.sweeps.request import Request
from trainer.sweeps.search import Search, examples
from trainer.sweeps.settings import TypedOverrides, check, is_sampled, settings_of, typed_overrides, with_overrides
from trainer.sweeps.sweep import Sweep, new_entries
from trainer.sweeps.validate import validate
from trainer.sweeps.worker import wait_for


def start_sweep(request: Request, command: list[str]) -> Ended:
    """Run the sweep of a request, new or resumed, and return how it ended.

    Raises:
        UserError: something is invalid; nothing was written.
    """
    composer, grid, launcher = request.composer, request.grid, request.launcher
    if request.folder is not None:
        return resumed_sweep(composer, request.folder, grid, command, launcher)
    return new_sweep(composer, grid, command, launcher)


def new_sweep(composer: Composer, overrides: SweepOverrides, command: list[str], launcher: Sequence[str] = ()) -> Ended:
    """Compose, validate and run the jobs of these overrides; return how the sweep ended.

    Args:
        composer: composes the jobs.
        overrides: overrides as typed, with several values for some keys.
        command: the command line as typed, stored in each results.json.
        launcher: overrides of the Hydra launcher that runs the jobs instead of this program's workers.

    Raises:
        UserError: something is invalid; nothing was written.
    """
    if is_sampled(composer, overrides):
        return _run_study(composer, overrides, TypedOverrides(trust=True, launcher=launcher), command)
    jobs = compose_jobs(composer, overrides)
    settings = settings_of(jobs)
    check(jobs, settings, launcher, sampled=False)
    plan = _plan(jobs, settings, trusted=True)
    jobs = plan.set_threads(jobs)
    if settings.dry_run:
        return Ended(show_plan(jobs, settings, plan, trusted=True), None)
    stacks = _stacks(jobs, range(len(jobs)), settings, plan, trusted=True)
    output = jobs[0].config.output
    with Signals() as signals, closing(Ledger.create(new_folder("sweep", output), overrides.words)) as ledger:
        ledger.add(new_entries(jobs, varying(jobs)))
        ledger.stack(stacks.jobs, stacks.lines)
        sweep = Sweep(ledger, jobs, settings, plan, command, trusted=True)
        return run_sweep(sweep, signals, launcher=launcher)


def resumed_sweep(
    composer: Composer, folder: Path, overrides: SweepOverrides, command: list[str], launcher: Sequence[str] = ()
) -> Ended:
    """Run the unfinished jobs of a sweep, and the jobs that further overrides add; return how it ended.

    Raises:
        UserError: something is invalid; nothing was changed.
    """
    typed = typed_overrides(overrides, launcher)
    with closing(Ledger.open(folder)) as ledger:
        if not typed.trust and "oc.env" in " ".join(ledger.words):
            advice = "If you trust it, add trust=true."
            raise UserError(Problem(str(folder), "its overrides read environment variables", advice=advice))
        jobs = [stored_job(entry, folder, typed.trust) for entry in ledger.entries]
        if _is_study(composer, ledger, jobs):
            if typed.jobs:
                words = " ".join(typed.jobs.values())
                raise UserError(Problem(words, "a study chooses its own jobs; start a new sweep"))
            return _run_study(composer, read_overrides(composer, ledger.words), typed, command, ledger, jobs)
        added = _added(composer, ledger, typed.jobs)
        settings = with_overrides(settings_of([*jobs, *added]), composer, typed.settings)
        check([*jobs, *added], settings, launcher, sampled=False)
        missing = [*_unfinished(ledger, jobs), *added]
        plan = _plan(missing, settings, trusted=typed.trust) if missing else None
        if settings.dry_run:
            return Ended(show_plan(missing, settings, plan, trusted=typed.trust), None)
        if plan is None:
            print(
                printable(
                    f"{folder}: all {len(jobs)} jobs are finished. More jobs: train -m resume={folder} key=values"
                )
            )
        else:
            jobs, added = plan.set_threads(jobs), plan.set_threads(added)
        if added:
            ledger.add(new_entries(added, varying([*jobs, *added])[len(jobs) :], start=len(jobs)))
        sweep = Sweep(ledger, [*jobs, *added], settings, plan, command, typed.trust)
        _continue_stacks(sweep, include_single=any(o.key_or_group == "sweep.stack" for o in typed.settings))
        with Signals() as signals:
            return run_sweep(sweep, signals, launcher=launcher)


def _is_study(composer: Composer, ledger: Ledger, jobs: Sequence[Job]) -> bool:
    if not jobs:  # the sweep was killed before its first job
        return is_sampled(composer, read_overrides(composer, ledger.words))
    return jobs[0].config.sweep.sampler is not None


def _run_study(
    composer: Composer,
    overrides: SweepOverrides,
    typed: TypedOverrides,
    command: list[str],
    ledger: Ledger | None = None,
    jobs: Sequence[Job] = (),
) -> Ended:
    """Run a sweep whose jobs a sampler chooses one by one: its unfinished jobs, then the remaining trials.

    Args:
        composer: composes the jobs.
        overrides: overrides that all jobs share.
        typed: overrides of this command.
        command: the command line as typed.
        ledger: ledger of a resumed study; None starts a new one.
        jobs: jobs of the ledger.
    """
    trial_jobs = examples(composer, overrides)
    settings = with_overrides(settings_of(jobs or trial_jobs), composer, typed.settings)
    check(trial_jobs, settings, typed.launcher, sampled=True)
    unfinished = _unfinished(ledger, jobs) if ledger else []
    missing = [*unfinished, *trial_jobs[:1] * max((settings.trials or 0) - len(jobs), 0)]
    plan = _plan(missing, settings, trusted=typed.trust, also=trial_jobs) if missing else None
    if settings.dry_run:
        return Ended(show_plan(missing, settings, plan, trusted=typed.trust), None)
    output = trial_jobs[0].config.output
    with Signals() as signals, closing(ledger or Ledger.create(new_folder("sweep", output), overrides.words)) as ledger:
        folder = ledger.folder
        if plan is None:
            print(printable(f"{folder}: all {len(jobs)} jobs are finished. More: train resume={folder} sweep.trials=N"))
        search = Search(folder, composer, overrides.parsed, trial_jobs[0].config.direction, settings)
        return run_sweep(Sweep(ledger, list(jobs), settings, plan, command, typed.trust), signals, search)


def _unfinished(ledger: Ledger, jobs: Sequence[Job]) -> list[Job]:
    return [job for job, entry in zip(jobs, ledger.entries, strict=True) if entry.state not in FINAL]


def _plan(jobs: Sequence[Job], settings: SweepConfig, *, trusted: bool, also: Sequence[Job] = ()) -> Plan:
    """Return the plan for these jobs once they and `also` have been validated."""
    plan = make_plan(jobs, settings)
    return validate(plan.set_threads([*jobs, *also]), plan, trusted=trusted)


def _added(composer: Composer, ledger: Ledger, words: dict[str, str]) -> list[Job]:
    """Return the jobs that further overrides add; if the sweep was killed at its start, also those it never wrote.

    `words` are the overrides by key; they replace the sweep's own overrides of the same keys.

    Raises:
        UserError: an override would only change existing jobs, which keep their configuration.
    """
    if not words and not ledger.lost:
        return []
    kept = [word for word in ledger.words if word.lstrip("+~").partition("=")[0] not in words]
    stored = {entry.id: entry.stored for entry in ledger.entries}
    jobs = compose_jobs(composer, read_overrides(composer, [*kept, *words.values()]))
    changes = [differing_keys(stored[job.id], job.stored) for job in jobs if job.id in stored]
    problems = {not_a_job_key(key, change[key]): None for change in changes for key in change if key in words}
    if problems:
        raise UserError(*problems)
    return [job for job in jobs if job.id not in stored]


def _stacks(jobs: Sequence[Job], numbers: Sequence[int], settings: SweepConfig, plan: Plan, *, trusted: bool) -> Stacks:
    """Decide which of these jobs are trained in one pass, and print the decisions."""
    if settings.stack is False:
        if plan.light and (line := hint(jobs)):
            print(printable(line))
        return Stacks()
    stacks = choose(jobs, numbers, settings.stack, plan.devices, plan.shared, trusted=trusted)
    for line in stacks.lines:
        print(printable(line))
    return stacks


def _continue_stacks(sweep: Sweep, *, include_single: bool) -> None:
    """Restore the runs of killed stacks to their own folders, and decide which of the other jobs are stacked.

    A decision to train a job by itself is kept unless `include_single` is True.
    """
    ledger = sweep.ledger
    stacked = {number for stack in ledger.stacks if len(stack) > 1 for number in stack}
    for number in stacked:
        wait_for(ledger.folder / ledger.entries[number].name)
    for note in restore_members(ledger.folder, {entry.name: entry.state not in FINAL for entry in ledger.entries}):
        print(printable(note))
    decided = stacked if include_single else {number for stack in ledger.stacks for number in stack}
    undecided = [entry.number for entry in sweep.unfinished() if entry.number not in decided]
    if sweep.plan is not None and undecided:
        jobs = [sweep.jobs[number] for number in undecided]
        stacks = _stacks(jobs, undecided, sweep.settings, sweep.plan, trusted=sweep.trusted)
        ledger.stack(stacks.jobs, stacks.lines)
