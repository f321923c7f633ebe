"""`sweep.dry_run=true`: the jobs of a sweep, and what they will cost at most; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.components.assemble import assemble
from trainer.config.compose import Job
from trainer.config.keys import SweepConfig
from trainer.data.loader import DataCache
from trainer.errors import RunFailed, UserError, raised_at
from trainer.processes import run_in_subprocess
from trainer.records.compare import varying
from trainer.report.leaderboard import print_table
from trainer.run.measure import SECONDS, Cost, measure
from trainer.sweeps import halving
from trainer.sweeps.plan import HARMLESS, Plan, kind, own_targets

ALL_SECONDS = 20.0  # and at most so many for all kinds
ALIKE = (*HARMLESS, "epochs", "data.fold", "model.dropout", "loss", "augment", "init")  # as to what a step costs
CHECKPOINTS = 2.5  # last.pt and previous.pt are whole, best.pt has the weights alone


def show_plan(jobs: Sequence[Job], settings: SweepConfig, prepared: Plan) -> int:
    """Prints every job and the estimate; returns the exit code."""
    kinds = {kind(job, ALIKE): job for job in reversed(jobs)}
    each = min(SECONDS, ALL_SECONDS / len(kinds))
    measured = {name: _measured(job, prepared, each) for name, job in kinds.items()}
    costs = [measured[kind(job, ALIKE)] for job in jobs]
    seconds = [cost.seconds * job.config.epochs for cost, job in zip(costs, jobs, strict=True)]
    told = varying(jobs)
    keys = [key for key in dict.fromkeys(key for row in told for key in row) if key != "epochs"]
    rows = [
        [number, *(row.get(key) for key in keys), job.config.epochs, _time(cost)]
        for number, (row, job, cost) in enumerate(zip(told, jobs, seconds, strict=True))
    ]
    print_table(["job", *keys, "epochs", "time"], rows)
    disk = sum(CHECKPOINTS * cost.checkpoint_bytes for cost in costs)
    total, notes = sum(seconds), ["where no job stops early"]
    if settings.halving.factor:
        share = halving.planned_share(settings.halving, [job.config.epochs for job in jobs])
        total *= share
        notes.append(f"{share:.0%} of all epochs, as halving leaves them")
    if settings.stack != "false":
        notes.append("each job by itself: what a stack gains shows when the sweep starts")
    print(f"\n{len(jobs)} jobs, {prepared.describe()}")
    print(f"time       about {_time(total / len(prepared.devices))} {'; '.join(notes)}")
    print(f"disk       about {disk / 1e6:,.1f} MB")
    return 0


def _measured(job: Job, prepared: Plan, limit: float) -> Cost:
    """Return what a job costs, measured in a process of its own."""
    return run_in_subprocess(prepared.devices, _measure, job, prepared.devices[0], prepared.shared, limit)


def _measure(job: Job, device: str, shared: DataCache, limit: float) -> Cost:
    job.config.device = device
    try:
        return measure(assemble(job.config, trusted=True, cache=shared), limit)
    except (UserError, RunFailed):
        raise
    except (Exception, SystemExit) as error:
        if not (targets := own_targets(job)):
            raise
        raise RunFailed(f"{', '.join(targets)}: a step of it failed: {raised_at(error)}.") from error


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
