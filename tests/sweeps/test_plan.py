"""Devices and cores are divided among workers, and `threads` is set without changing the jobs otherwise."""

from __future__ import annotations

from copy import deepcopy

from trainer.config.compose import Composer
from trainer.sweeps.grid import compose_jobs, read_overrides
from trainer.sweeps.plan import make_plan


def test_threads_are_set_in_new_jobs() -> None:
    composer = Composer()
    words = ["data=iris", "threads=auto,3", "sweep.workers=1"]
    jobs = compose_jobs(composer, read_overrides(composer, words))
    before = deepcopy(jobs)
    plan = make_plan(jobs, jobs[0].config.sweep)
    settled = plan.set_threads(jobs)
    assert jobs == before
    assert [job.stored["threads"] for job in settled] == [plan.threads, 3]
    assert [job.config.threads for job in settled] == [plan.threads, 3]
    assert plan.thread_range == (min(3, plan.threads), max(3, plan.threads))
