"""A sweep runs every combination, tells failures, ranks by validation and tests the winner alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from trainer import checkpoint


def leaderboard(folder: Path) -> list[dict[str, str]]:
    with open(folder / "leaderboard.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_grid_is_ranked_and_only_its_winner_tested(train) -> None:
    done = train("-m", "model=ann,mnist_classifier", "optim.lr=1e-4,1e-2", "epochs=2")
    assert done.code == 0, done.err
    rows = leaderboard(done.folder)
    assert {(row["model"], row["optim.lr"]) for row in rows} == {
        (model, lr) for model in ("ann", "mnist_classifier") for lr in ("0.0001", "0.01")
    }
    losses = [float(row["valid_loss"]) for row in rows]
    assert losses == sorted(losses)
    assert [bool(row["test_accuracy"]) for row in rows] == [True, False, False, False]
    for row in rows:
        results = json.loads((done.folder / row["job"] / "results.json").read_text())
        assert results["valid"]["loss"] == float(row["valid_loss"])
        assert (results["test"] is not None) == bool(row["test_accuracy"])


def test_a_job_equals_the_same_run_alone(train) -> None:
    swept = train("-m", "model=ann", "seed=3,4", "epochs=2")
    for seed in (3, 4):
        alone = train("model=ann", f"seed={seed}", "epochs=2", "test=false")
        name = next(row["job"] for row in leaderboard(swept.folder) if row["seed"] == str(seed))
        a, b = (checkpoint.load(f / "checkpoints" / "best.pt")["model"] for f in (swept.folder / name, alone.folder))
        assert all((a[key] == b[key]).all() for key in a)


def test_a_failed_job_is_told_and_the_others_go_on(train) -> None:
    done = train("-m", "model=ann", "optim=sgd", "optim.lr=1e30,1e-2", "epochs=2")
    assert done.code == 1
    rows = leaderboard(done.folder)
    assert [row["status"] for row in rows] == ["completed", "diverged"]
    assert "not finite" in rows[1]["error"]


def test_mistakes_of_all_jobs_are_told_before_the_first_starts(train) -> None:
    done = train("-m", "epochs=1,-2", "optim.lr=1e-3,fast", "model=ann,cnnn")
    assert done.code == 2
    assert done.folder is None
    for fragment in ("epochs=-2: expected a whole number", "model=cnnn: no such model"):
        assert fragment in done.err
