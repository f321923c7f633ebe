"""A sweep can be extended by more values, keeps its jobs, and is found by `resume=latest`."""

from __future__ import annotations

from pathlib import Path

from faults.injection import plan
from helpers.fork_server import ForkServer
from helpers.processes import processes_in, wait_for_end
from helpers.sweeps import TINY, contents, places, rows, states, table


def test_new_values_add_jobs_and_repeated_values_do_not(sweep) -> None:
    words = ("data=iris", "model=mlp", "plots=false", "epochs=1")  # threads as they come
    folder = sweep("-m", *words, "seed=0,1").folder
    before = {place: contents(place) for place in places(folder)}
    for same in ([], ["seed=0,1"], ["seed=1"], ["seed=0,1", "optim.lr=1e-3"]):
        done = sweep("-m", f"resume={folder}", *same)
        assert done.code == 0, done.err
        assert len(places(folder)) == 2
        assert "finished" in done.out
    assert {place: contents(place) for place in places(folder)} == before
    done = sweep("-m", f"resume={folder}", "seed=range(4)", "sweep.workers=1")
    assert done.code == 0, done.err
    assert "1 worker " in done.out
    assert [int(place.name[:3]) for place in places(folder)] == [0, 1, 2, 3]
    assert {row["seed"] for row in table(folder)} == {"0", "1", "2", "3"}
    assert set(states(folder).values()) == {"done"}


def test_added_jobs_are_distinguished_from_earlier_jobs(sweep) -> None:
    folder = sweep("-m", *TINY, "seed=0,1", "epochs=1").folder
    assert sweep("-m", f"resume={folder}", "optim.lr=0.05").code == 0
    assert sorted(row["optim.lr"] for row in table(folder)) == ["0.001", "0.001", "0.05", "0.05"]
    assert {row["n"] for row in rows(folder / "leaderboard_groups.csv")} == {"2"}


def test_the_leaderboard_has_columns_for_configured_and_for_trained_epochs(sweep) -> None:
    done = sweep("-m", *TINY, "epochs=3,1", "max_steps=2", "test=false", "sweep.workers=1")
    header = (done.folder / "leaderboard.csv").read_text().splitlines()[0].split(",")
    assert len(header) == len(set(header))
    assert {(row["epochs"], row["trained"]) for row in table(done.folder)} == {("3", "1"), ("1", "1")}
    assert " epochs " in done.out
    assert "1 worker on cpu, 1 thread each" in done.out


def test_mistakes_on_resume_change_nothing(sweep) -> None:
    folder = sweep("-m", *TINY, "seed=0,1", "epochs=1", "test=false").folder
    before = contents(folder)
    for word in ("seed=-1,2", "modle=ann", "model=lenet5", "sweep.workers=none"):
        done = sweep("-m", f"resume={folder}", word)
        assert done.code == 2, word
        assert done.err.startswith("train: error: ")
    assert contents(folder) == before


def test_latest_is_the_sweep_that_was_killed(server: ForkServer) -> None:
    words = ("-m", *TINY, "epochs=4", "checkpoint.every=1ep", "test=false", "seed=0,1,2,3", "sweep.workers=2")
    killed = server.start(*words, faults=plan("kill-main", 0, "002-seed=2/checkpoints/.last.pt")).end()
    wait_for_end(processes_in(Path.cwd()))
    assert "done" in states(killed.folder).values()
    done = server.start("resume=latest").end()
    assert done.code == 0, done.err
    assert set(states(killed.folder).values()) == {"done"}
