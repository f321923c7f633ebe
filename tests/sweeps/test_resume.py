"""A sweep that is killed and resumed has the same values and weights in the end as an uninterrupted one."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.faulty_models import write_faulty, write_slow
from helpers.fork_server import ForkServer, RunningCommand
from helpers.processes import NO_PROC, alive, wait_for_end
from helpers.sweeps import TINY, all_weights, contents, places, results, rows, states, table
from helpers.trees import same_tree

pytestmark = pytest.mark.skipif(NO_PROC, reason="processes are found in /proc")
WORDS = ("-m", *TINY, "optim.lr=1e-3,1e-1", "seed=0,1", "epochs=15", "patience=null", "checkpoint.every=1ep")


def essence(folder: Path) -> dict[str, Any]:
    """All of a sweep that must be the same, timings left out."""
    kept = ("status", "test", "valid", "train", "best_epoch", "epochs", "steps", "error")
    return {
        "table": table(folder),
        "groups": rows(folder / "leaderboard_groups.csv"),
        "weights": all_weights(folder),
        "metrics": [rows(place / "metrics.csv") for place in places(folder)],
        "results": [{name: results(place)[name] for name in kept} for place in places(folder)],
    }


@pytest.fixture(scope="module")
def whole(server, tmp_path_factory) -> tuple[dict[str, Any], float]:
    """Return the outcome of an uninterrupted sweep, and its seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        begin = time.perf_counter()
        done = server.start(*WORDS).end()
        seconds = time.perf_counter() - begin
        assert done.code == 0, done.err
        return essence(done.folder.resolve()), seconds


def again(server: ForkServer, running: RunningCommand) -> RunningCommand:
    """The sweep once more: resumed, or begun where nothing had been written yet."""
    folder = running.folder
    return server.start(f"resume={folder}") if folder and places(folder) else server.start(*WORDS)


def test_killed_sweeps_end_like_uninterrupted_ones(whole, server: ForkServer) -> None:
    expected, length = whole
    chance, kills = random.Random(1), 0
    finished: dict[Path, Any] = {}
    while kills < 6:
        running, going = server.start(*WORDS), True
        while going:
            time.sleep(chance.uniform(0.2, 0.7 * length))
            workers = running.workers()
            done = running.kill() if kills < 6 else running.end()
            going = done.code == -signal.SIGKILL
            kills += going
            wait_for_end(workers)  # they end by themselves
            if going and running.folder:
                jobs = zip(places(running.folder), states(running.folder).values(), strict=True)
                finished |= {place: contents(place) for place, state in jobs if state == "done"}
            if going:
                running = again(server, running)
        assert done.code == 0, done.err
        assert same_tree(essence(done.folder), expected)
        tested = {done.folder / row["job"] for row in table(done.folder) if row["test"]}
        assert len(tested) == 2  # the winner's seeds
        for place, before in finished.items():
            assert place in tested or contents(place) == before
        finished.clear()


def test_killed_workers_are_reported_and_their_jobs_can_be_resumed(server: ForkServer) -> None:
    words = (*WORDS, "test=false")
    expected = essence(server.start(*words).end().folder)
    chance, kills = random.Random(2), 0
    while kills < 5:
        running, code = server.start(*words), 1
        while code:
            workers = running.until(lambda folder, running=running: running.workers())
            time.sleep(chance.uniform(0, 0.3))
            with contextlib.suppress(ProcessLookupError):  # it was faster
                os.kill(chance.choice(workers), signal.SIGKILL)
            done = running.end()
            failed = [number for number, state in states(done.folder).items() if state == "failed"]
            code = 1 if failed else 0
            assert done.code == code
            assert done.err.count("killed by SIGKILL") == len(done.err.splitlines()) == len(failed)
            for number in failed:
                assert f"job {number} (" in done.err
                assert results(places(done.folder)[number])["status"] == "failed"
            kills += len(failed)
            running = server.start(f"resume={done.folder}") if code else running
            code = running.end().code if kills >= 5 and code else code
        assert same_tree(essence(done.folder), expected)


def test_only_the_winner_is_tested_also_after_a_resume(sweep) -> None:
    words = (*write_faulty(), "epochs=4", "model.fault=raises,none", "optim.lr=0.05", "model.width=16,4")
    done = sweep("-m", *words)
    assert done.code == 1
    Path("cured").touch()
    assert sweep(f"resume={done.folder}", "trust=true").code == 0
    assert [bool(row["test"]) for row in table(done.folder)] == [True, False, False, False]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.exhaustive),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.exhaustive),
    ],
)
def test_a_signal_lets_all_workers_save(number: int, code: int, whole, server: ForkServer) -> None:
    expected, length = whole
    chance, signals = random.Random(number), 0
    while signals < 2:
        running, going = server.start(*WORDS), True
        while going:
            running.until(lambda folder, running=running: running.workers() or set(states(folder).values()) == {"done"})
            time.sleep(chance.uniform(0, length / 4))
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
        assert same_tree(essence(done.folder), expected)


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
    running = server.start("-m", *write_slow(), "seed=range(4)")
    workers = running.until(lambda folder: running.workers())
    running.kill()
    wait_for_end(workers)
    assert set(states(running.folder).values()) <= {"pending", "running"}
