"""What may change when a run is resumed, what is refused, and what is left over; for kills see `tests/faults`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch

from helpers.datasets import write_images, write_table
from helpers.fork_server import ForkServer
from helpers.outcome import run_outcome
from helpers.processes import NO_PROC, states, wait_for_end, wait_until
from helpers.trees import same_tree
from trainer.records import folder
from trainer.records.contents import remove_torn
from trainer.records.metrics import read_metrics


def test_a_run_with_data_workers_can_be_resumed_at_once_after_a_kill(server: ForkServer) -> None:
    """The workers live on for seconds: torch looks every five whether the main process is there."""
    words = ("model=mlp", "model.dropout=0.2", "data.resident=false", "data.workers=2", "max_steps=40", "test=false")
    words = (*words, "threads=1", "plots=false", "checkpoint.every=1st", "validate_every=15st")
    words = (*words, "batch_size=8")  # so that every worker has delivered a batch by the first validation
    expected = run_outcome(server.start(*words).end().folder)
    running = server.start(*words)
    running.until(lambda path: (path / "metrics.csv").exists() and read_metrics(path / "metrics.csv"))
    workers = running.workers()
    path = running.kill().folder
    assert not folder.is_running(path)
    assert len(workers) > 1
    done = server.start(f"resume={path}").end()
    assert done.code == 0, done.err
    assert "resumed    after" in done.out
    assert same_tree(run_outcome(path), expected)
    wait_for_end(workers)


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
    assert same_tree(run_outcome(stopped), run_outcome(whole.folder))


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
    assert same_tree(run_outcome(stopped), run_outcome(whole.folder))


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
    a, b = run_outcome(whole.folder), run_outcome(sliced.folder)
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
