"""A full disk, and files in the way of folders, are reported in a sentence."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from helpers.sweeps import TINY, states, table

SWEEP = ("-m", *TINY, "seed=0,1", "epochs=1", "test=false")


@pytest.mark.parametrize("words", [SWEEP, (*TINY, "epochs=1")])
def test_a_file_in_place_of_outputs_is_reported(words: tuple[str, ...], sweep) -> None:
    Path("outputs").touch()
    done = sweep(*words)
    assert done.code == 2
    assert "outputs/20" in done.err
    assert "cannot be written (Not a directory)" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["sweep.lock", "000-seed=0/run.lock"])
def test_a_lock_that_cannot_be_created_is_reported(name: str, sweep) -> None:
    folder = sweep(*SWEEP, "max_steps=1").folder
    (folder / name).unlink()
    (folder / name).mkdir()
    done = sweep(f"resume={folder if name == 'sweep.lock' else folder / '000-seed=0'}", "max_steps=2")
    assert done.code == 2
    assert f"{name}: cannot be written (Is a directory)" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_full_disk_ends_a_sweep_with_a_sentence(train_process, sweep) -> None:
    def limit() -> None:  # on the size of a file, in place of a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    process = train_process("train", *SWEEP, preexec_fn=limit)
    assert process.returncode == 1
    assert "sweep.jsonl: could not be written (File too large). Make room, then: train resume=" in process.stderr
    assert "Traceback" not in process.stderr
    folder = next(Path("outputs").glob("[0-9]*/*"))
    done = sweep(f"resume={folder}")
    assert done.code == 0, done.err
    assert list(states(folder).values()) == ["done", "done"]


def test_damaged_results_only_leave_the_value_of_their_job_empty(sweep) -> None:
    folder = sweep(*SWEEP).folder
    (folder / "000-seed=0" / "results.json").write_text("[1]")
    done = sweep(f"resume={folder}")
    assert done.code == 0, done.err
    assert [row["valid_loss"] == "" for row in table(folder)] == [False, True]
