"""`sweep.dry_run=true`: print the jobs of a sweep and an upper estimate of their cost; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainer.components.assemble import assemble
from trainer.config.job import Job
from trainer.config.sweep_keys import SweepConfig
from trainer.data.loader import DataCache
from trainer.errors import RunFailed, UserError, raised_at
from trainer.processes import run_in_subprocess
from trainer.records.compare import varying
from trainer.report.tables import print_table
from trainer.run.measure import SECONDS, Cost, measure
from trainer.sweeps import halving
from trainer.sweeps.plan import Plan
from trainer.sweeps.validate import SAME_COST, kind, user_targets

ALL_SECONDS = 20.0  # limit on measuring all kinds of jobs together
CHECKPOINTS = 2.5  # last.pt and previous.pt hold everything, best.pt the weights alone


def show_plan(jobs: Sequence[Job], settings: SweepConfig, plan: Plan | None, *, trusted: bool) -> int:
    """Print a table of the jobs that would be trained and an estimate of time and disk; return the exit code."""
    if plan is None:
        print("all jobs are finished")
        return 0
    jobs = plan.set_threads(jobs)
    kinds = {kind(job, SAME_COST): job for job in reversed(jobs)}
    limit = min(SECONDS, ALL_SECONDS / len(kinds))
    measured = {name: _measure_apart(job, plan, limit, trusted=trusted) for name, job in kinds.items()}
    costs = [measured[kind(job, SAME_COST)] for job in jobs]
    seconds = [cost.seconds * job.config.epochs for cost, job in zip(costs, jobs, strict=True)]
    print_table(*_table(jobs, seconds))
    total, notes = sum(seconds), ["if no job stops early"]
    if settings.halving.factor:
        share = halving.planned_share(settings.halving, [job.config.epochs for job in jobs])
        total *= share
        notes.append(f"{share:.0%} of all epochs because of halving")
    if settings.stack is not False:
        notes.append("each job by itself: what a stack saves is measured when the sweep starts")
    print(f"\n{len(jobs)} jobs, {plan.describe()}")
    print(f"time       about {_time(total / len(plan.devices))} {'; '.join(notes)}")
    print(f"disk       about {CHECKPOINTS * sum(cost.checkpoint_bytes for cost in costs) / 1e6:,.1f} MB")
    return 0


def _table(jobs: Sequence[Job], seconds: Sequence[float]) -> tuple[list[str], list[list[object]]]:
    """Return header and rows: what sets each job apart, its epochs and its time."""
    varies = varying(jobs)
    keys = [key for key in dict.fromkeys(key for row in varies for key in row) if key != "epochs"]
    rows = [
        [number, *(row.get(key) for key in keys), job.config.epochs, _time(cost)]
        for number, (row, job, cost) in enumerate(zip(varies, jobs, seconds, strict=True))
    ]
    return ["job", *keys, "epochs", "time"], rows


def _measure_apart(job: Job, plan: Plan, limit: float, *, trusted: bool) -> Cost:
    """Measure the cost of an epoch of a job in a child process."""
    device = plan.devices[0]
    job = replace(job, config=replace(job.config, device=device))
    return run_in_subprocess(plan.devices, _measure, job, plan.shared, limit, trusted)


def _measure(job: Job, shared: DataCache, limit: float, trusted: bool) -> Cost:
    try:
        components = assemble(job.config, trusted=trusted or job.config.trust, cache=shared)
        return measure(components, limit)
    except (UserError, RunFailed):
        raise
    except (Exception, SystemExit) as error:
        if not (targets := user_targets(job)):
            raise
        raise RunFailed(f"{', '.join(targets)}: a training step failed: {raised_at(error)}.") from error


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
