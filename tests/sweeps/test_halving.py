"""Successive halving ends the same jobs as a reference computed from complete runs."""

from __future__ import annotations

import math
import re
import signal
from pathlib import Path

import pytest

from faults.injection import plan
from helpers.faulty_models import write, write_faulty
from helpers.metrics import metrics_row, write_metrics
from helpers.processes import NO_PROC, processes_in, wait_for_end
from helpers.sweeps import TINY, all_weights, ledger, places, results, rows, states, table, weights
from helpers.trees import same_tree
from trainer.config.sweep_keys import HalvingConfig
from trainer.records.ledger import Entry, Ledger, read_ledger
from trainer.sweeps.halving import losers, reached, rung_epochs, rungs, value_at

GRID = ("optim.lr=1e-5,1e-3,1e-2,3e-2,1e-1", "patience=null", "epochs=9", "seed=1")


def reference(folder: Path, rungs: list[int], factor: int, monitor: str, largest: bool) -> dict[int, int]:
    """Return the epochs that each job of a whole sweep would train with halving, from metrics.csv alone."""
    curves = [[float(row[monitor]) for row in rows(place / "metrics.csv")] for place in places(folder)]
    epochs = {number: len(curve) for number, curve in enumerate(curves)}
    alive = list(epochs)
    for rung in rungs:
        best = {n: (max if largest else min)(curves[n][:rung]) for n in alive}
        alive.sort(key=lambda n: (-best[n] if largest else best[n], n))
        keep = math.ceil(len(alive) / factor)
        epochs |= {n: min(rung, epochs[n]) for n in alive[keep:]}
        alive = alive[:keep]
    return epochs


def check(halved: Path, whole: Path, expected: dict[int, int]) -> None:
    """Check that each job of a halved sweep is the beginning of the same job of the whole one."""
    for number, (a, b) in enumerate(zip(places(halved), places(whole), strict=True)):
        metrics = rows(b / "metrics.csv")
        assert rows(a / "metrics.csv") == metrics[: expected[number]], number
        pruned = expected[number] < len(metrics)
        assert states(halved)[number] == ("pruned" if pruned else "done")
        assert (results(a)["status"] == "pruned") == pruned
        assert results(a)["epochs"] == expected[number]
        if not pruned:
            assert same_tree(weights(a), weights(b))
    assert {row["job"]: row["state"] for row in table(halved)} == {
        place.name: states(halved)[number] for number, place in enumerate(places(halved))
    }


def test_rungs() -> None:
    assert rung_epochs(HalvingConfig(3, 1), 30) == [1, 3, 9, 27]
    assert rung_epochs(HalvingConfig(3, 1), 27) == [1, 3, 9]
    assert rung_epochs(HalvingConfig(2, 5), 11) == [5, 10]
    assert rung_epochs(HalvingConfig(4, 2), 2) == []


@pytest.mark.parametrize(
    ("factor", "first", "words", "monitor"),
    [
        (3, 1, (), "valid_loss"),
        (2, 2, ("monitor=valid_accuracy", "batch_size=16"), "valid_accuracy"),
    ],
)
def test_survivors_are_those_of_the_reference(factor: int, first: int, words: tuple, monitor: str, sweep) -> None:
    words = (*TINY, *GRID, *words, "test=false")
    whole = sweep("-m", *words).folder
    expected = reference(
        whole, rung_epochs(HalvingConfig(factor, first), 9), factor, monitor, monitor == "valid_accuracy"
    )
    assert len(set(expected.values())) > 2
    done = sweep("-m", *words, f"sweep.halving.factor={factor}", f"sweep.halving.min_epochs={first}")
    assert done.code == 0, done.err
    check(done.folder, whole, expected)
    assert f"{1 - sum(expected.values()) / (9 * 5):.0%} of all epochs were not trained" in done.out
    assert "pruned" in done.out


@pytest.mark.parametrize(
    "words",
    [
        ("validate_every=2ep", "schedule=plateau", "schedule.patience=0"),
        ("validate_every=3st", "patience=4"),
        ("max_steps=3",),
        ("accumulate=2", "batch_size=10", "schedule=cosine", "baseline=true", "ema.decay=0.9", "model.dropout=0.3"),
    ],
)
def test_a_paused_and_continued_job_equals_an_uninterrupted_one(words: tuple, sweep) -> None:
    words = (*words, *TINY, "epochs=5", "test=false")
    first = 2 if words[0].startswith("validate_every") else 1  # a rung needs a validation before it
    halving = ["sweep.halving.factor=2", f"sweep.halving.min_epochs={first}"]
    halved = sweep("-m", *words, "optim.lr=1e-5,1e-2", *halving).folder
    assert sorted(states(halved).values()) == ["done", "pruned"]
    survivor = list(states(halved).values()).index("done")
    a, b = places(halved)[survivor], sweep(*words, ("optim.lr=1e-5", "optim.lr=1e-2")[survivor]).folder
    assert rows(a / "metrics.csv") == rows(b / "metrics.csv")
    assert same_tree(weights(a), weights(b))
    assert results(a)["steps"] == results(b)["steps"]


def test_ties_go_to_the_earlier_job(sweep) -> None:
    done = sweep("-m", *TINY, "patience=50,60,70,80", "epochs=4", "sweep.halving.factor=2")
    assert done.code == 0
    assert list(states(done.folder).values()) == ["done", "pruned", "pruned", "pruned"]
    assert [len(rows(place / "metrics.csv")) for place in places(done.folder)] == [4, 2, 1, 1]
    assert [bool(row["test"]) for row in table(done.folder)] == [True, False, False, False]


def test_jobs_that_stopped_early_or_diverged_are_not_trained_further(sweep) -> None:
    words = (
        *TINY,
        "optim=sgd",
        "optim.lr=1e-3,1e-2,1,1e30",
        "epochs=8",
        "patience=2",
        "test=false",
        "monitor=train_loss",
    )
    whole = sweep("-m", *words).folder
    done = sweep("-m", *words, "sweep.halving.factor=2", "sweep.halving.min_epochs=4")
    assert done.code == 1
    ended = states(done.folder)
    assert ended[3] == "diverged"
    for number, place in enumerate(places(done.folder)):
        full = rows(places(whole)[number] / "metrics.csv")
        own = rows(place / "metrics.csv")
        assert own == full[: len(own)]
        assert (len(own) == len(full)) == (ended[number] != "pruned")
    stopped = [n for n, place in enumerate(places(done.folder)) if results(place)["status"] == "early_stopped"]
    assert all(ended[n] == "done" for n in stopped)


def test_halving_with_a_single_job_and_with_diverged_jobs_only(sweep) -> None:
    done = sweep("-m", *TINY, "seed=1", "epochs=3", "sweep.halving.factor=3")
    assert done.code == 0
    assert list(states(done.folder).values()) == ["done"]
    done = sweep("-m", *TINY, "optim=sgd", "optim.lr=1e30,1e31", "epochs=3", "sweep.halving.factor=2")
    assert done.code == 1
    assert set(states(done.folder).values()) == {"diverged"}


def test_jobs_without_a_value_are_not_ranked_by_their_numbers() -> None:
    entries = [Entry(n, f"id{n}", f"{n:03}", {}, {"monitor": "valid_auroc", "epochs": 4}, {}, []) for n in range(4)]
    first, last = rungs(HalvingConfig(2, 2), entries, Path())
    assert (first.epoch, last.epoch) == (2, None)
    assert first.entries == last.entries == entries
    assert not last.pruned
    assert last.note == "halving    no job has a valid_auroc after epoch 2: all go on"
    write_metrics(Path("002"), [metrics_row(2, valid_auroc=0.5)])
    assert [entry.number for entry in losers(entries, Path(), 2, 2)] == [1, 3]
    assert value_at(entries[2], Path(), 1) is None


def test_a_rung_does_not_read_damaged_figures_of_a_job_that_stopped_there() -> None:
    """After a kill, a rung is compared again: with the values in the ledger, whose lines have checksums."""
    entries = [Entry(n, f"id{n}", f"{n}", {}, {"monitor": "valid_loss", "epochs": 8}, {}, []) for n in range(4)]
    Path("sweep").mkdir()
    written = Ledger.create(Path("sweep"), [])
    written.add(entries)
    for entry, value in zip(entries, (0.4, 0.1, 0.3, 0.2), strict=True):
        write_metrics(Path(entry.name), [metrics_row(1, valid_loss=0.5), metrics_row(2, valid_loss=value)])
        written.change(entry, "paused", reached=reached(entry, Path()))
        written.change(entry, "running")
    written.close()
    write_metrics(Path("1"), [metrics_row(1, valid_loss=0.5), metrics_row(2, valid_loss=9.1)])
    Path("3", "metrics.csv").write_bytes(b"\xff\xfe")
    stored = read_ledger(Path("sweep", "sweep.jsonl")).entries
    assert [entry.number for entry in losers(stored, Path(), 2, 2)] == [2, 0]
    stored[3].state = "done"  # it stopped early: its value counts at later rungs
    assert value_at(stored[3], Path(), 4) == 0.2
    assert value_at(stored[0], Path(), 1) == 0.5  # the job did not stop there


def test_jobs_that_cannot_be_compared_are_refused(sweep) -> None:
    done = sweep("-m", *TINY, "monitor=valid_loss,valid_accuracy", "epochs=3", "sweep.halving.factor=2")
    assert done.code == 2
    assert "monitor" in done.err


@pytest.mark.skipif(NO_PROC, reason="processes are found in /proc")
@pytest.mark.parametrize(
    ("do", "code"),
    [("kill-all", -signal.SIGKILL), pytest.param("signal-main", 143, marks=pytest.mark.exhaustive)],
)
def test_a_killed_sweep_keeps_the_same_survivors(do: str, code: int, server, sweep) -> None:
    """Of 32 steps of the first rung, 16 of the second and 8 of the third, some are trained between two kills."""
    words = (*write_faulty(), "epochs=6", "batch_size=24", "optim.lr=1e-4,1e-3,1e-2,1e-1", "sweep.workers=1")
    every = "checkpoint.every=1st" if do == "kill-all" else "checkpoint.every=auto"
    words = ("-m", *words, every, "sweep.halving.factor=2", "sweep.halving.min_epochs=2")
    whole, begin = sweep(*words), words
    for steps, pruned in ((14, 0), (24, 2), (5, 2), (8, 3)):
        done = server.start(*begin, faults=plan(do, steps, "poll fit", number=int(signal.SIGTERM))).end()
        wait_for_end(processes_in(Path.cwd()))
        assert done.code == code, done.err
        assert list(states(done.folder).values()).count("pruned") == pruned
        begin = (f"resume={done.folder}", "trust=true")
    done = sweep(*begin)
    assert done.code == 0, done.err
    assert states(done.folder) == states(whole.folder)
    assert table(done.folder) == table(whole.folder)
    assert same_tree(all_weights(done.folder), all_weights(whole.folder))
    for a, b in zip(places(done.folder), places(whole.folder), strict=True):
        assert rows(a / "metrics.csv") == rows(b / "metrics.csv")


@pytest.mark.skipif(NO_PROC, reason="processes are found in /proc")
def test_a_job_that_diverged_late_still_counts_after_a_resume(server, sweep) -> None:
    """Of eight jobs four go on; two of these diverge, and one of the other two goes on, interrupted or not."""
    words = write_faulty()
    for n, (fault, lr) in enumerate([("infinite", 0.05)] * 2 + [("none", 0.02)] * 2 + [("none", 1e-5)] * 4):
        text = f"# @package _global_\nmodel:\n  fault: {fault}\noptim:\n  lr: {lr}\nseed: {n}\n"
        write(f"conf/experiment/ours_{n}.yaml", text)
    named = ",".join(f"ours_{n}" for n in range(8))
    words = ("-m", *words, f"experiment={named}", "epochs=6", "model.at=3", "sweep.halving.factor=2", "sweep.workers=1")
    whole = server.start(*words, faults={"root": str(Path.cwd()), "log": "moments"}).end()
    lines = [line.get("state") for line in ledger(whole.folder)]
    second = [number for number, state in enumerate(lines) if state == "diverged"][1]
    following = len(lines) - lines.index("running", second)  # what is written from the next start of a job on
    writes = len(re.findall("^write .*/sweep.jsonl", Path("moments").read_text(), re.MULTILINE))
    killed = server.start(*words, faults=plan("kill-main", writes - following + 1, "write .*/sweep.jsonl")).end()
    wait_for_end(processes_in(Path.cwd()))
    assert list(states(killed.folder).values()).count("diverged") == 2
    assert "running" in states(killed.folder).values()
    done = sweep(f"resume={killed.folder}", "trust=true")
    assert done.code == whole.code == 1
    assert states(done.folder) == states(whole.folder)
    assert table(done.folder) == table(whole.folder)
