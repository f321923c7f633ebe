"""Each job runs in its own process: faults are contained and reported at once, and jobs do not affect each other."""

from __future__ import annotations

import os
import re
import signal
from contextlib import closing
from pathlib import Path

import pytest

from faults.injection import plan
from helpers.faulty_models import PROBE, RUDE, write, write_faulty
from helpers.processes import HANG_SECONDS, alive
from helpers.sweeps import TINY, all_weights, ledger, places, results, states, table, weights
from helpers.trees import same_tree
from trainer.config.compose import Composer
from trainer.data.loader import DataCache
from trainer.signals import Signals
from trainer.sweeps.pool import JobStart, Tick, WorkerPool
from trainer.sweeps.worker import SweepJob, WorkItem

FAULTS = {
    "raises": ("failed", "ValueError: no good"),
    "exits": ("failed", "SystemExit: 3"),
    "memory": ("failed", "out of memory"),
    "killed": ("failed", "killed by SIGKILL"),
    "infinite": ("diverged", "not finite"),
}


@pytest.mark.parametrize("workers", [1, 2])
def test_faults_are_reported_and_do_not_affect_other_jobs(workers: int, sweep) -> None:
    words = (*write_faulty(), "epochs=4", f"sweep.workers={workers}", "test=false")
    faults = [*FAULTS, "none"]
    done = sweep("-m", *words, f"model.fault={','.join(faults)}", "seed=3", "optim.lr=0.01")
    assert done.code == 1
    assert "Traceback" not in done.err + done.out
    lines = done.err.splitlines()
    assert len(lines) == len(FAULTS), done.err
    leaderboard = table(done.folder)
    for number, (place, state) in enumerate(zip(places(done.folder), states(done.folder).values(), strict=True)):
        fault = faults[number]
        expected, reason = FAULTS.get(fault, ("done", ""))
        assert state == expected
        row = next(row for row in leaderboard if row["job"] == place.name)
        assert row["state"] == expected
        assert reason in row["reason"]
        assert reason in (results(place)["error"] or "")
        if fault == "none":
            assert same_tree(weights(place), weights(sweep(*words, "seed=3", "optim.lr=0.01").folder))
            continue
        (line,) = (line for line in lines if f"job {number} " in line)
        assert line.startswith("train: error: ")
        for fragment in (f"model.fault={fault}", reason):
            assert fragment in line
    assert f"train resume={done.folder.relative_to(Path.cwd())}" in done.out


def test_a_fault_is_reported_while_other_jobs_still_run(server) -> None:
    words = (*write_faulty(), "epochs=30", "sweep.workers=2", "test=false")
    running = server.start("-m", *words, "model.fault=raises,slow", "model.at=1")
    running.until(lambda folder: "model.fault=raises" in running.err.read_text())
    assert list(states(running.folder).values()) == ["failed", "running"]
    running.until(lambda folder: "failed" in [row["state"] for row in table(folder)])
    os.kill(running.pid, signal.SIGTERM)
    assert running.end().code == 143


def test_a_huge_learning_rate_diverges(sweep) -> None:
    done = sweep("-m", *TINY, "optim=sgd", "optim.lr=1e30,1e-2", "epochs=3")
    assert done.code == 1
    leaderboard = table(done.folder)
    assert [row["state"] for row in leaderboard] == ["done", "diverged"]
    assert "not finite" in leaderboard[1]["reason"]
    assert "optim.lr=1e+30" in done.err
    before = (places(done.folder)[0] / "train.log").read_bytes()
    assert sweep(f"resume={done.folder}").code == 1
    assert (places(done.folder)[0] / "train.log").read_bytes() == before  # it would only diverge again


def test_the_first_fault_may_end_the_sweep(sweep) -> None:
    words = (*write_faulty(), "epochs=6", "checkpoint.every=1ep", "test=false", "optim.lr=0.01")
    swept = ("model.fault=slow,raises,none", "model.at=5", "model.delay=0.5")  # time to be interrupted
    done = sweep("-m", *words, *swept, "sweep.on_error=stop", "sweep.workers=2")
    assert done.code == 1
    assert list(states(done.folder).values()) == ["interrupted", "failed", "pending"]
    assert (places(done.folder)[0] / "checkpoints" / "last.pt").exists()
    assert "model.fault=raises" in done.err
    Path("cured").touch()
    done = sweep(f"resume={done.folder}", "trust=true")
    assert done.code == 0, done.err
    for place in places(done.folder)[:2]:
        assert "resumed    after" in (place / "train.log").read_text()
    alone = weights(sweep(*words).folder)
    assert all(same_tree(resumed, alone) for resumed in all_weights(done.folder))


def test_a_job_whose_worker_ends_without_results_has_failed(sweep) -> None:
    words = (*write_faulty(), "epochs=4", "checkpoint.every=1ep", "test=false", "model.at=5")
    plain = sweep("-m", *words, "model.fault=ends,none")
    assert list(states(plain.folder).values()) == ["failed", "done"]
    halved = sweep("-m", *words, "model.fault=ends", "seed=0,1,2", "sweep.halving.factor=3")
    assert sorted(states(halved.folder).values()) == ["failed", "pruned", "pruned"]
    assert plain.code == halved.code == 1


def test_a_job_that_failed_late_is_not_the_winner(sweep) -> None:
    for name, fault, lr in (("a_good", "raises", 0.05), ("b_dull", "none", 1e-5), ("c_gone", "infinite", 0.05)):
        write(f"conf/experiment/{name}.yaml", f"# @package _global_\nmodel:\n  fault: {fault}\noptim:\n  lr: {lr}\n")
    done = sweep("-m", *write_faulty(), "epochs=6", "model.at=9", "experiment=a_good,b_dull,c_gone")
    assert done.code == 1
    assert list(states(done.folder).values()) == ["failed", "done", "diverged"]
    leaderboard = table(done.folder)
    assert [row["job"] for row in leaderboard if row["test"]] == ["001-experiment=b_dull"]
    assert leaderboard[0]["experiment"] == "b_dull"


def test_a_failed_test_of_the_winner_is_a_failure(sweep) -> None:
    done = sweep("-m", *write_faulty(), "model.fault=untested", "seed=0,1", "epochs=2")
    assert done.code == 1
    assert "no test for me" in done.err
    assert {row["test"] for row in table(done.folder)} == {""}


@pytest.mark.parametrize("file", ["train.log", "run.lock", ".config.yaml", "metrics.csv"])
def test_a_signal_before_the_first_step_is_no_failure(file: str, server) -> None:
    fault = plan("signal-main", 0, f"open .*/000-seed=0/{file}$", number=int(signal.SIGTERM))
    done = server.start("-m", *TINY, "seed=range(3)", "epochs=1", "sweep.workers=2", faults=fault).end()
    assert done.code == 143
    assert done.err == ""
    assert set(states(done.folder).values()) <= {"pending", "interrupted", "done"}


@pytest.mark.parametrize("moment", ["forward", "constructor", "import"])
def test_changes_of_a_job_to_its_process_do_not_reach_the_next_job(moment: str, server, sweep) -> None:
    write("rude.py", RUDE + ("\nrude()\n" if moment == "import" else ""))
    write("probe.py", PROBE)
    write("conf/model/a_rude.yaml", f"# Ours\n_target_: rude.Rude\nmoment: {moment}\n")
    write("conf/model/b_probe.yaml", "# Ours\n_target_: probe.Probe\n")
    words = ("data=iris", "threads=1", "plots=false", "epochs=2", "test=false")
    done = server.start("-m", *words, "model=a_rude,b_probe,mlp", "sweep.workers=1").end()
    assert done.code == 0, done.err
    _, probed, plain = places(done.folder)
    probe = sweep(*words, "model=b_probe")
    seen = re.findall(r"^probe .*", (probed / "train.log").read_text(), re.MULTILINE)
    assert seen == re.findall(r"^probe .*", probe.out, re.MULTILINE)
    assert same_tree(weights(probed), weights(probe.folder))
    assert same_tree(weights(plain), weights(sweep(*words, "model=mlp").folder))


@pytest.mark.parametrize(("workers", "threads"), [(1, 1), (2, 1), (2, 2)])
def test_a_job_equals_the_same_run_alone(workers: int, threads: int, sweep) -> None:
    words = ("model=mlp", "model.hidden=[256]", "epochs=1", "augment=light", "plots=false", "test=false")
    words = (*words, f"threads={threads}")
    done = sweep("-m", *words, "seed=3,4,5", f"sweep.workers={workers}")
    assert done.code == 0, done.err
    alone = sweep(*words, "seed=4")
    assert results(alone.folder)["threads"] == results(places(done.folder)[1])["threads"] == threads
    for name in ("train", "valid", "steps", "data_fingerprint"):
        assert results(places(done.folder)[1])[name] == results(alone.folder)[name]
    assert same_tree(weights(places(done.folder)[1]), weights(alone.folder))
    kept, same = ((folder / "config.yaml").read_text() for folder in (places(done.folder)[1], alone.folder))
    assert kept.replace(f"workers: {workers}", "workers: auto") == same


def test_threads_are_divided_before_the_jobs_start_and_stored(sweep) -> None:
    done = sweep("-m", "data=iris", "model=mlp", "seed=0,1", "epochs=1", "sweep.workers=1", "test=false")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert f"1 worker on cpu, {cores} thread" in done.out
    assert {line["stored"]["threads"] for line in ledger(done.folder) if "stored" in line} == {cores}
    assert {results(place)["threads"] for place in places(done.folder)} == {cores}


def test_no_worker_is_idle_while_jobs_wait(server) -> None:
    words = (*write_faulty(), "model.fault=waits", "epochs=2", "test=false")
    running = server.start("-m", *words, "model.at=1,100,101,102", "sweep.workers=2")  # only the first job waits
    running.until(lambda folder: list(states(folder).values()).count("done") == 3)
    Path("go").touch()
    assert running.end().code == 0
    order = [(line["job"], line["state"]) for line in ledger(running.folder)[1:] if line["state"] != "pending"]
    assert order.index((0, "done")) > order.index((3, "done"))
    most, now = 0, 0
    for _, state in order:
        now += 1 if state == "running" else -1
        most = max(most, now)
    assert most == 2
    assert not alive(running.workers())


def test_closing_the_events_kills_the_running_processes() -> None:
    composer, folder = Composer(), Path("job")
    words = ["data=iris", "model=mlp", "threads=1", "epochs=100000", "patience=null"]
    job = composer.job(composer.read(words, sweep=False)[0])
    item = WorkItem((SweepJob(0, job, folder),), folder, trusted=True)
    pool = WorkerPool(["cpu"], [], DataCache())
    with closing(pool.run([item, item], Signals())) as events:  # closed as after an exception in the block
        assert next(events) == JobStart(item)
        assert not folder.exists()
        assert next(events) == Tick((item,))
        assert all(process.is_alive() for process in pool.running)
    [process] = pool.running
    process.join(HANG_SECONDS)
    assert process.exitcode == -signal.SIGKILL
