"""A small sweep from its overrides to its leaderboard, in this process: jobs, stacks, trials, and the dry run."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.stacks import DOUBLE, STACK, same_sweeps, stacks
from helpers.sweeps import TINY, places, results, states, table
from trainer.sweeps import estimate

JOBS = (*TINY, "epochs=2", "optim.lr=1e-3,1e-2", "sweep.workers=1")


def test_the_leaderboard_ranks_the_jobs_and_its_winner_is_tested(train) -> None:
    done = train("-m", *JOBS)
    assert done.code == 0, done.err
    assert states(done.folder) == {0: "done", 1: "done"}
    losses = {place.name: results(place)["valid"]["loss"] for place in places(done.folder)}
    rows = table(done.folder)
    assert [row["job"] for row in rows] == sorted(losses, key=lambda name: losses[name])
    assert [float(row["valid_loss"]) for row in rows] == pytest.approx(sorted(losses.values()))
    tests = [results(done.folder / row["job"]).get("test") for row in rows]
    assert float(rows[0]["test"]) == pytest.approx(tests[0]["accuracy"])
    assert tests[1] is None
    assert train(f"resume={done.folder}").code == 0  # nothing is left to do
    assert table(done.folder) == rows


def test_a_stack_comes_to_what_its_jobs_come_to(train) -> None:
    alone, stacked = (train("-m", *DOUBLE, *JOBS, "test=false", *more) for more in ((), (STACK,)))
    assert (alone.code, stacked.code) == (0, 0), stacked.err
    assert stacks(stacked.folder) == [[0, 1]]
    assert same_sweeps(alone.folder, stacked.folder)


def test_a_study_chooses_its_trials(train) -> None:
    pytest.importorskip("optuna")
    search = ("sweep.sampler=tpe", "sweep.trials=2", "optim.lr=${loguniform:1e-3,1e-1}")
    done = train("-m", *TINY, "epochs=1", "test=false", "sweep.workers=1", *search)
    assert done.code == 0, done.err
    rates = [float(row["optim.lr"]) for row in table(done.folder)]
    assert len(set(rates)) == 2
    assert all(1e-3 <= rate <= 1e-1 for rate in rates)


def test_a_dry_run_trains_nothing(train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "SECONDS", 0.01)
    done = train("-m", *JOBS, "sweep.dry_run=true")
    assert done.code == 0, done.err
    assert "2 jobs" in done.out
    assert not Path("outputs").exists()
