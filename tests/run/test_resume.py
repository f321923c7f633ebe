"""A run that is killed and resumed ends bit for bit where an uninterrupted one does."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from helpers.datasets import write_images, write_table
from helpers.fork_server import ForkServer
from helpers.processes import NO_PROC, states, wait_for_end, wait_until
from helpers.trees import same_tree
from trainer.records import folder
from trainer.records.contents import remove_torn
from trainer.records.metrics import read_metrics
from trainer.training import checkpoint

# Dropout, BatchNorm-free and with it, augmentation, momentum, a schedule per step, validation inside epochs.
SETTINGS = {
    "lenet5": [
        "model=lenet5",
        "augment=light",
        "schedule=cosine",
        "epochs=3",
        "validate_every=7st",
        "checkpoint.every=2st",
    ],
    "ann": ["model=ann", "optim=sgd", "schedule=plateau", "epochs=12", "checkpoint.every=1ep", "batch_size=32"],
    "mnist_classifier": [
        "model=mnist_classifier",
        "schedule=one_cycle",
        "epochs=12",
        "checkpoint.every=auto",
        "accumulate=3",
    ],
}
KILLS = {"lenet5": 10, "ann": 8, "mnist_classifier": 6}


def run(server: ForkServer, words: list[str], kill_after: float | None = None, number: int = signal.SIGKILL) -> int:
    """Return the exit code of a run, negative where a signal ended it."""
    command = server.start(*words, "threads=1", "plots=false")
    if kill_after is None:
        return command.end().code
    time.sleep(kill_after)
    return command.kill(number).code


def newest() -> Path | None:
    link = Path("outputs/latest")
    return link.resolve() if link.exists() else None


def essence(path: Path) -> dict:
    """Everything of a run that must be the same, timings left out."""
    last = checkpoint.load(path / "checkpoints" / "last.pt")["run"]
    best = checkpoint.load(path / "checkpoints" / "best.pt")
    with open(path / "metrics.csv", newline="") as file:
        rows = [untimed(row) for row in csv.DictReader(file)]
    results = json.loads((path / "results.json").read_text())
    kept = ("status", "test", "valid", "train", "best_epoch", "epochs", "steps")
    last["history"] = [untimed(row) for row in last["history"]]
    last["best"]["row"] = untimed(last["best"]["row"])
    last.pop("seconds")
    return {"last": last, "best": best["model"], "rows": rows, "results": {k: results[k] for k in kept}}


def untimed(row: dict) -> dict:
    return {name: value for name, value in row.items() if name not in ("seconds", "samples_per_second")}


@pytest.mark.parametrize(
    "name",
    [
        "ann",
        pytest.param("lenet5", marks=pytest.mark.exhaustive),
        pytest.param("mnist_classifier", marks=pytest.mark.exhaustive),
    ],
)
def test_killed_runs_end_like_uninterrupted_ones(name: str, server: ForkServer) -> None:
    words = SETTINGS[name]
    begin = time.perf_counter()
    assert run(server, words) == 0
    length = time.perf_counter() - begin
    whole = newest()
    expected = essence(whole)
    chance = random.Random(name)
    kills = 0
    while kills < KILLS[name]:
        assert newest() is not None
        os.unlink("outputs/latest")
        code = run(server, words, chance.uniform(0.05, length))
        while code == -signal.SIGKILL:
            kills += 1
            path = newest()
            started = path is not None and (path / "config.yaml").exists()
            after = chance.uniform(0.05, length) if kills < KILLS[name] else None
            code = run(server, [f"resume={path}"] if started else words, after)
        assert code == 0
        assert newest() != whole
        assert same_tree(essence(newest()), expected)


def test_a_run_with_data_workers_can_be_resumed_at_once_after_a_kill(server: ForkServer) -> None:
    """The workers live on for seconds: torch looks every five whether the main process is there."""
    words = ("model=mlp", "model.dropout=0.2", "data.resident=false", "data.workers=2", "max_steps=40", "test=false")
    words = (*words, "threads=1", "plots=false", "checkpoint.every=1st", "validate_every=15st")
    words = (*words, "batch_size=8")  # so that every worker has delivered a batch by the first validation
    expected = essence(server.start(*words).end().folder)
    running = server.start(*words)
    running.until(lambda path: (path / "metrics.csv").exists() and read_metrics(path / "metrics.csv"))
    workers = running.workers()
    path = running.kill().folder
    assert not folder.is_running(path)
    assert len(workers) > 1
    done = server.start(f"resume={path}").end()
    assert done.code == 0, done.err
    assert "resumed    after" in done.out
    assert same_tree(essence(path), expected)
    wait_for_end(workers)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.exhaustive)]
)
def test_signals_save_at_once_and_lose_nothing(number: int, code: int, server: ForkServer) -> None:
    words = [*SETTINGS["lenet5"][:-1], "checkpoint.every=100ep", "epochs=4"]
    assert run(server, words) == 0
    expected = essence(newest())
    path, wait = None, 0.2
    while path is None or not (path / "checkpoints" / "last.pt").exists():  # until the signal met a step
        os.unlink("outputs/latest")
        assert run(server, words, wait, number) in (code, -number)
        path, wait = newest(), wait * 1.3
        if path is None:
            os.symlink("nowhere", "outputs/latest")
    assert json.loads((path / "results.json").read_text())["status"] == "interrupted"
    saved = checkpoint.load(path / "checkpoints" / "last.pt")["run"]["step"]
    assert 0 < saved < expected["results"]["steps"]
    assert run(server, [f"resume={path}"]) == 0
    assert same_tree(essence(path), expected)


@pytest.fixture
def stopped(train) -> Path:
    """A run of two epochs out of four, as a time limit leaves it."""
    done = train("model=ann", "epochs=2", "checkpoint.every=1ep", "test=false")
    assert done.code == 0
    return done.folder


def test_more_epochs_are_free_where_the_schedule_has_no_length(stopped: Path, train) -> None:
    done = train(f"resume={stopped}", "epochs=4")
    assert done.code == 0
    assert done.results["epochs"] == 4
    assert [row["epoch"] for row in read_metrics(stopped / "metrics.csv")] == [1, 2, 3, 4]


@pytest.mark.slow
def test_more_epochs_equal_a_run_of_that_length(stopped: Path, train) -> None:
    assert train(f"resume={stopped}", "epochs=4").code == 0
    whole = train("model=ann", "epochs=4", "checkpoint.every=1ep", "test=false")
    assert same_tree(essence(stopped), essence(whole.folder))


def test_changed_keys_that_matter_are_refused_all_at_once(stopped: Path, train) -> None:
    before = (stopped / "checkpoints" / "last.pt").read_bytes()
    done = train(f"resume={stopped}", "optim.lr=0.5", "batch_size=16", "data.workers=1")
    assert done.code == 2
    assert "optim.lr=0.5: the run in" in done.err
    assert "batch_size=16" in done.err
    assert "has 64" in done.err
    assert "workers" not in done.err
    assert (stopped / "checkpoints" / "last.pt").read_bytes() == before


@pytest.mark.slow
def test_a_configuration_that_is_not_the_checkpoints_is_refused(stopped: Path, train) -> None:
    path = stopped / "config.yaml"
    path.write_text(path.read_text().replace("lr: 0.001", "lr: 0.003"))
    done = train(f"resume={stopped}", "epochs=4")
    assert done.code == 2
    assert "optim.lr=0.003: the run in" in done.err
    assert "has 0.001" in done.err
    assert train(f"resume={stopped}", "epochs=4", "resume_force=true").code == 0


@pytest.mark.slow
def test_epochs_matter_to_a_schedule_with_a_length(train) -> None:
    stopped = train("model=ann", "epochs=2", "schedule=cosine", "test=false").folder
    assert "epochs=4" in train(f"resume={stopped}", "epochs=4").err
    forced = train(f"resume={stopped}", "epochs=4", "resume_force=true")
    assert forced.code == 0
    rows = read_metrics(stopped / "metrics.csv")
    assert len(rows) == 4
    assert rows[-1]["lr"] < rows[2]["lr"] < 1e-3  # the longer cosine, from where it would be; it never climbs


@pytest.mark.slow
def test_force_changes_the_optimizer_settings(stopped: Path, train) -> None:
    assert train(f"resume={stopped}", "epochs=3", "optim.lr=0.5", "resume_force=true").code == 0
    assert read_metrics(stopped / "metrics.csv")[-1]["lr"] == 0.5


@pytest.mark.slow
def test_a_flipped_bit_is_found_and_the_checkpoint_before_it_used(stopped: Path, train) -> None:
    last = stopped / "checkpoints" / "last.pt"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    done = train(f"resume={stopped}", "epochs=4")
    assert done.code == 0
    assert "last.pt is damaged" in done.err
    whole = train("model=ann", "epochs=4", "checkpoint.every=1ep", "test=false")
    assert same_tree(essence(stopped), essence(whole.folder))


def test_only_damaged_checkpoints_end_with_one(stopped: Path, train) -> None:
    for name in ("last.pt", "previous.pt"):
        (stopped / "checkpoints" / name).write_bytes(b"PK\x03\x04 nothing")
    done = train(f"resume={stopped}", "epochs=4")
    assert done.code == 1
    assert "No good checkpoint is left" in done.err
    assert "Traceback" not in done.err


def test_a_running_folder_is_refused(stopped: Path, train) -> None:
    running = folder.RunFolder(stopped)
    try:
        done = train(f"resume={stopped}", "epochs=4")
    finally:
        running.close()
    assert done.code == 2
    assert "writing to this folder at this moment" in done.err


def test_changed_data_is_refused(train) -> None:
    write_images(Path("photos"), {"ant": 8, "bee": 8})
    words = ["data=image_folder", "data.root=photos", "model=ann", "epochs=2", "test=false"]
    stopped = train(*words).folder
    write_images(Path("photos"), {"ant": 9, "bee": 9})
    done = train(f"resume={stopped}", "epochs=3")
    assert done.code == 2
    assert "the data is not what this run was trained on" in done.err


@pytest.mark.slow
def test_a_table_may_move_but_neither_its_columns_nor_its_categories_change_their_names(train) -> None:
    table = write_table(Path("table.csv"))
    words = ("data=csv", "data.path=table.csv", "data.target=kind", "data.drop=[id]", "data.missing=mean", "model=mlp")
    run = train(*words, "epochs=1", "test=false").folder
    text = table.read_text()
    moved = table.rename("moved.csv")
    for old, new in (("height", "length"), ("red", "rouge"), ("big", "bulky")):
        moved.write_text(text.replace(old, new))
        done = train(f"resume={run}", "epochs=2", "data.path=moved.csv")
        assert done.code == 2, (old, done.out)
        assert "data.path=moved.csv: the data is not what this run was trained on" in done.err
    moved.write_text(text)
    done = train(f"resume={run}", "epochs=2", "data.path=moved.csv")
    assert done.code == 0, done.err
    assert len(read_metrics(run / "metrics.csv")) == 2
    assert "path: moved.csv" in (run / "config.yaml").read_text()


def test_a_finished_run_says_so(stopped: Path, train) -> None:
    before = (stopped / "checkpoints" / "last.pt").stat().st_mtime_ns
    done = train(f"resume={stopped}")
    assert done.code == 0
    assert "nothing is left to do" in done.out
    assert (stopped / "checkpoints" / "last.pt").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_finished_run_whose_page_was_not_written_gets_it(train) -> None:
    """A kill between results.json and report.html: the second is written, and torn files are gone."""
    run = train("model=ann", "epochs=1", "plots=true").folder
    before = (run / "report.html").read_bytes()
    for name in ("report.html", "curves.png"):
        (run / name).unlink()
    (run / ".report.html.999999999.tmp").write_bytes(before[:100])
    done = train(f"resume={run}")
    assert done.code == 0
    assert "report.html, which was missing" in done.out
    assert len((run / "report.html").read_bytes()) > len(before) / 2
    assert (run / "curves.png").is_file()
    assert not list(run.glob(".*.tmp"))
    (run / ".metrics.csv.999999999.tmp").touch()
    assert "which was missing" not in train(f"resume={run}").out
    assert not list(run.glob(".*.tmp"))


@pytest.mark.skipif(NO_PROC, reason="whether a process has ended is looked up in /proc")
def test_torn_files_of_processes_that_nobody_reaps_are_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    wait_until(lambda: states()[ended.pid][1] == "Z")
    torn = tmp_path / f".results.json.{ended.pid}.tmp"
    torn.touch()
    remove_torn(tmp_path, shared=True)
    assert not torn.exists()
    ended.wait()


@pytest.mark.slow
def test_torn_files_of_living_processes_are_left_alone(train) -> None:
    run = train("model=ann", "epochs=1", "plots=false").folder
    (run / f".report.html.{os.getppid()}.tmp").touch()
    (run / ".report.html.999999999.tmp").touch()
    assert train(f"resume={run}", "epochs=2").code == 0
    assert [path.name for path in run.glob(".*")] == [f".report.html.{os.getppid()}.tmp"]


@pytest.mark.slow
def test_time_slices_add_up_to_the_whole_run(train) -> None:
    words = ["model=ann", "epochs=4", "checkpoint.every=1ep", "validate_every=5st"]
    whole = train(*words)
    sliced = train(*words, "max_minutes=0.0001")
    assert sliced.results["epochs"] == 0
    assert train(f"resume={sliced.folder}", "max_minutes=null").code == 0
    a, b = essence(whole.folder), essence(sliced.folder)
    assert same_tree(a["last"]["model"], b["last"]["model"])
    assert a["results"]["test"] == b["results"]["test"]


@pytest.mark.parametrize("claim", ["trust: false", "trust: true"])  # what is not trusted cannot vouch for itself
def test_foreign_code_in_a_stored_configuration_needs_trust(claim: str, stopped: Path, train) -> None:
    Path("evil.py").write_text("import pathlib\npathlib.Path('canary').touch()\nNet = None\n")
    text = (stopped / "config.yaml").read_text().replace("trainer.models.mlp.ANN", "evil.Net")
    (stopped / "config.yaml").write_text(text.replace("trust: false", claim))
    done = train(f"resume={stopped}", "epochs=4")
    assert done.code == 2
    assert "trust=true" in done.err
    assert not Path("canary").exists()


def test_the_thread_count_is_stored_and_reused(train) -> None:
    stopped = train("model=ann", "epochs=1", "threads=1").folder
    torch.set_num_threads(2)
    assert train(f"resume={stopped}", "epochs=2").results["threads"] == 1
