"""A sweep that is killed and resumed has the same values and weights in the end as an uninterrupted one."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from faults.injection import plan
from helpers.faulty_models import write_faulty
from helpers.fork_server import ForkServer
from helpers.outcome import sweep_outcome
from helpers.processes import NO_PROC, alive, processes_in, wait_for_end
from helpers.runs import CompletedCommand
from helpers.sweeps import TINY, all_weights, contents, places, results, rows, states, table
from helpers.trees import same_tree

pytestmark = pytest.mark.skipif(NO_PROC, reason="processes are found in /proc")
WORDS = ("-m", *TINY, "optim.lr=1e-3,1e-1", "seed=0,1", "epochs=6", "patience=null", "checkpoint.every=1ep")


@pytest.fixture(scope="module")
def whole(server, tmp_path_factory) -> tuple[dict[str, Any], int]:
    """Return the outcome of an uninterrupted sweep, and how many moments it has."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("whole")
        patch.chdir(folder)
        done = server.start(*WORDS, faults={"root": str(folder), "log": "moments"}).end()
        assert done.code == 0, done.err
        return sweep_outcome(done.folder.resolve()), len(Path("moments").read_text().splitlines())


def again(server: ForkServer, folder: Path | None, *words: str, **options: Any) -> CompletedCommand:
    """Resume a sweep, or begin it if nothing has been written yet; return when all its processes have ended."""
    begun = folder and places(folder)
    done = server.start(*((f"resume={folder}",) if begun else words), **options).end()
    wait_for_end(processes_in(Path.cwd()))  # they end by themselves
    return done


def test_killed_sweeps_end_like_uninterrupted_ones(whole, server: ForkServer) -> None:
    expected, moments = whole
    chance, kills, folder = random.Random(1), 0, None
    finished: dict[Path, Any] = {}
    while kills < 3 or folder:
        fault = plan("kill-main", chance.randrange(moments)) if kills < 3 else None
        done = again(server, folder, *WORDS, faults=fault)
        folder = done.folder
        if done.code == -signal.SIGKILL:
            kills += 1
            jobs = zip(places(folder), states(folder).values(), strict=True) if folder else ()
            finished |= {place: contents(place) for place, state in jobs if state == "done"}
            continue
        assert done.code == 0, done.err
        assert same_tree(sweep_outcome(folder), expected)
        tested = {folder / row["job"] for row in table(folder) if row["test"]}
        assert len(tested) == 2  # the winner's seeds
        for place, before in finished.items():
            assert place in tested or contents(place) == before
        folder, finished = None, {}


def test_killed_workers_are_reported_and_their_jobs_can_be_resumed(whole, server: ForkServer) -> None:
    words = (*WORDS, "test=false")
    expected = sweep_outcome(server.start(*words).end().folder)
    chance, kills, folder = random.Random(2), 0, None
    while kills < 3 or folder:
        fault = plan("kill-child", chance.randrange(whole[1])) if kills < 3 else None
        done = again(server, folder, *words, faults=fault)
        folder = done.folder
        failed = [number for number, state in states(folder).items() if state == "failed"]
        assert done.code == bool(failed)
        assert done.err.count("killed by SIGKILL") == len(done.err.splitlines()) == len(failed)
        for number in failed:
            assert f"job {number} (" in done.err
            assert results(places(folder)[number])["status"] == "failed"
        kills += len(failed)
        if not failed:
            assert same_tree(sweep_outcome(folder), expected)
            folder = None


def test_only_the_winner_is_tested_also_after_a_resume(sweep) -> None:
    words = (*write_faulty(), "epochs=4", "model.fault=raises,none", "optim.lr=0.05", "model.width=16,4")
    done = sweep("-m", *words)
    assert done.code == 1
    Path("cured").touch()
    assert sweep(f"resume={done.folder}", "trust=true").code == 0
    assert [bool(row["test"]) for row in table(done.folder)] == [True, False, False, False]


def validations(folder: Path) -> int:
    return sum(len(rows(place / "metrics.csv")) for place in places(folder))


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.exhaustive),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.exhaustive),
    ],
)
def test_a_signal_lets_all_workers_save(number: int, code: int, whole, server: ForkServer) -> None:
    expected, _ = whole
    chance, signals = random.Random(number), 0
    while signals < 2:
        running, going = server.start(*WORDS), True
        while going:
            least = chance.randrange(24)  # of the rows that it writes
            running.until(lambda folder, least=least: validations(folder) >= least)
            workers = running.workers()
            assert all(os.getpgid(pid) != os.getpgid(running.pid) for pid in workers)  # Ctrl-C does not reach them
            # Without workers it may be so early that the signal would come before anybody listens.
            done = running.kill(number) if signals < 2 and workers else running.end()
            going = done.code != 0
            signals += going
            assert not alive(workers)
            assert done.err == ""
            if going:
                assert done.code == code
                assert set(states(done.folder).values()) <= {"done", "interrupted", "pending"}
                assert "next       train resume=" in done.out
                assert len(table(done.folder)) == 4
                running = server.start(f"resume={done.folder}")
        assert same_tree(sweep_outcome(done.folder), expected)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_ledger_is_created_leaves_a_sweep_that_can_be_resumed(
    number: int, server: ForkServer
) -> None:
    fault = {"at": 0, "do": "signal-main", "number": int(number)}  # the first change of a file
    done = server.start("-m", *TINY, "epochs=1", "seed=0,1", faults={"root": os.getcwd(), "faults": [fault]}).end()
    assert (done.code, done.err) == (128 + number, "")
    assert set(states(done.folder).values()) == {"pending"}
    assert "(2 jobs are not finished)" in done.out
    assert server.start(f"resume={done.folder}").end().code == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.exhaustive)])
def test_half_trained_jobs_continue_from_their_checkpoints(number: int, server: ForkServer) -> None:
    words = (*write_faulty(), "model.fault=slow", "epochs=10", "checkpoint.every=1ep", "test=false")
    running = server.start("-m", *words, "seed=0,1,2", "sweep.workers=2")
    saved = "checkpoints/last.pt"
    running.until(lambda folder: [(place / saved).exists() for place in places(folder)[:2]] == [True, True])
    workers = running.workers()
    running.kill(number)
    folder = running.folder
    wait_for_end(workers)
    done = server.start(f"resume={folder}", "trust=true").end()
    assert done.code == 0, done.err
    for place, half in zip(places(folder), (True, True, False), strict=True):
        assert ("resumed    after" in (place / "train.log").read_text()) == half
        assert [row["epoch"] for row in rows(place / "metrics.csv")] == [str(n) for n in range(1, 11)]
    again = server.start("-m", *words, "seed=0,1,2").end()
    assert same_tree(all_weights(folder), all_weights(again.folder))


def test_a_sweep_can_be_resumed_while_its_killed_workers_still_save(server: ForkServer) -> None:
    words = (*write_faulty(), "model.fault=slow", "epochs=3", "test=false", "model.delay=0.8", "model.at=6")
    running = server.start("-m", *words, "seed=0,1", "sweep.workers=2")
    running.until(lambda folder: list(states(folder).values()) == ["running"] * 2)
    running.until(lambda folder: [len(rows(place / "metrics.csv")) for place in places(folder)] == [2, 2])
    workers = running.workers()
    running.kill()
    done = server.start(f"resume={running.folder}", "trust=true").end()
    assert done.code == 0, done.err
    assert not alive(workers)
    expected = server.start("-m", *words, "seed=0,1", "model.delay=0").end()
    assert same_tree(all_weights(done.folder), all_weights(expected.folder))


def test_workers_of_a_killed_sweep_end_even_before_they_train(server: ForkServer) -> None:
    done = server.start("-m", *TINY, "seed=range(4)", faults=plan("kill-main", 0, "open .*/run.lock$")).end()
    wait_for_end(processes_in(Path.cwd()))
    assert set(states(done.folder).values()) <= {"pending", "running"}
