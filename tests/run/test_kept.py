"""`checkpoint.keep`: the weights of each validation, or of the newest ones; and `output`, the folder of run folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from helpers.trees import same_tree
from trainer.training.checkpoint import kept, kept_name, load

WORDS = ("data=iris", "model=ann", "threads=1", "patience=null", "checkpoint.every=1ep")
EPOCHS = [f"epoch-{number:04d}.pt" for number in range(1, 5)]


def files(folder: Path) -> list[str]:
    return kept(os.listdir(folder / "checkpoints"))


def test_all_keeps_the_weights_of_each_validation(train, verb) -> None:
    done = train(*WORDS, "checkpoint.keep=all", "epochs=4", "validate_every=2st", "batch_size=32")
    assert done.code == 0, done.err
    names = files(done.folder)
    rows = [row.split(",")[:2] for row in (done.folder / "metrics.csv").read_text().splitlines()[1:]]
    contents = [load(done.folder / "checkpoints" / name) for name in names]
    assert [[str(content["epoch"]), str(content["step"])] for content in contents] == rows
    assert names[:2] == ["epoch-0000-step-00000002.pt", "epoch-0001.pt"] or len(names) == len(rows)
    best = load(done.folder / "checkpoints/best.pt")
    (same,) = [content for content in contents if content["step"] == best["step"]]
    assert same_tree(same["model"], best["model"])
    assert verb("evaluate", done.folder / "checkpoints" / names[0]).code == 0


def test_a_number_keeps_the_newest_and_a_resume_goes_on(train) -> None:
    done = train(*WORDS, "checkpoint.keep=2", "epochs=3", "test=false")
    assert files(done.folder) == EPOCHS[1:3]
    assert train(f"resume={done.folder}", "epochs=4").code == 0
    assert files(done.folder) == EPOCHS[2:4]
    assert {"best.pt", "last.pt", "previous.pt"} <= set(os.listdir(done.folder / "checkpoints"))
    other = train(*WORDS, "epochs=4", "test=false")
    assert files(other.folder) == []
    last = [load(folder / "checkpoints/last.pt")["run"]["model"] for folder in (done.folder, other.folder)]
    assert same_tree(*last)  # keeping weights changes no result


def test_a_planted_link_is_replaced_and_its_aim_is_not_written(train, tmp_path: Path) -> None:
    done = train(*WORDS, "checkpoint.keep=1", "epochs=1", "test=false")
    aim = tmp_path / "aim"
    aim.write_text("mine")
    for name in EPOCHS[1:3]:
        (done.folder / "checkpoints" / name).symlink_to(aim)
    assert train(f"resume={done.folder}", "epochs=3").code == 0
    assert files(done.folder) == EPOCHS[2:3]
    assert not (done.folder / "checkpoints" / EPOCHS[2]).is_symlink()
    assert aim.read_text() == "mine"


def test_weights_that_are_not_finite_are_not_kept(train) -> None:
    done = train(*WORDS, "checkpoint.keep=all", "optim.lr=1e30", "epochs=3", "test=false")
    for name in files(done.folder):
        model = load(done.folder / "checkpoints" / name)["model"]
        assert all(torch.isfinite(value).all() for value in model.values())


def test_names_sort_by_validation() -> None:
    moments = [(0, 7), (1, None), (1, 20), (2, None), (10, None), (10_000, None), (10_000, 123_456_789)]
    names = [kept_name(*moment) for moment in moments]
    assert kept([*names[::-1], "best.pt", "epoch-1.pt", "epoch-0001.pt.tmp"]) == names


@pytest.mark.parametrize("value", ["0", "none", "best", "-1"])
def test_another_value_is_refused(value: str, train) -> None:
    done = train(*WORDS, f"checkpoint.keep={value}")
    assert done.code == 2
    assert "checkpoint.keep" in done.err
    assert "expected all, or a number of validations from 1" in done.err


@pytest.mark.parametrize("way", ["key", "variable"])
def test_runs_are_written_to_the_output_folder(way: str, train, verb, monkeypatch) -> None:
    extra = ("output=elsewhere/runs",) if way == "key" else ()
    if way == "variable":
        monkeypatch.setenv("TRAINER_OUTPUT", "elsewhere/runs")
    assert train(*WORDS, "epochs=1", "max_steps=1", "test=false", *extra).code == 0
    (run,) = Path("elsewhere/runs").glob("[0-9]*/*")
    assert Path("elsewhere/runs/latest").resolve() == run.resolve()
    assert not Path("outputs").exists()
    (run / "results.json").unlink()  # as if it had been killed
    assert train("resume=latest", "max_steps=2", *extra).code == 0
    assert load(run / "checkpoints/last.pt")["run"]["step"] == 2
    monkeypatch.setenv("TRAINER_OUTPUT", "elsewhere/runs")
    assert verb("evaluate", "latest").code == 0
    assert verb("list", "runs").out.count("\n") == 2


@pytest.mark.slow
def test_sweeps_are_written_to_the_output_folder(train) -> None:
    assert train("-m", *WORDS, "epochs=1", "seed=0,1", "output=there", "sweep.workers=1").code == 0
    (sweep,) = Path("there").glob("[0-9]*/*")
    assert (sweep / "sweep.jsonl").exists()
    done = train("resume=latest", "output=there")
    assert done.code == 0, done.err
    assert "all 2 jobs are finished" in done.out
    assert not Path("outputs").exists()
