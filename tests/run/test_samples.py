"""split.csv and predictions.csv: every sample is named once, and the figures of the test follow from the file."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from helpers.components import assemble
from helpers.datasets import write_images
from trainer.data.dataset import Split
from trainer.data.samples import Arrays
from trainer.data.tasks import Classification
from trainer.run.samples import write_predictions


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_digits_are_divided_as_the_run_did_and_its_accuracy_follows(train, job) -> None:
    done = train("model=ann", "epochs=1", "seed=3")
    splits = rows(done.folder / "split.csv")
    assert [row["row"] for row in splits] == [str(i) for i in range(1797)]
    expected = assemble(job("model=ann", "seed=3").config).data.splits
    for name, split in expected.items():
        assert [int(row["row"]) for row in splits if row["split"] == name] == split.indices.tolist()
    tested = rows(done.folder / "predictions.csv")
    assert [int(row["row"]) for row in tested] == expected["test"].indices.tolist()
    right = sum(row["truth"] == row["prediction"] for row in tested)
    assert right / len(tested) == pytest.approx(done.results["test"]["accuracy"])
    chances = torch.tensor([[float(row[f"probability_{label}"]) for label in range(10)] for row in tested])
    assert chances.argmax(1).tolist() == [int(row["prediction"]) for row in tested]
    torch.testing.assert_close(chances.sum(1), torch.ones(len(tested)), atol=1e-5, rtol=0)
    truths = torch.tensor([int(row["truth"]) for row in tested])
    loss = -chances.gather(1, truths[:, None]).log().mean().item()
    assert loss == pytest.approx(done.results["test"]["loss"], rel=1e-4)

    again = job("model=ann", "seed=8", f"data.split_file={done.folder / 'split.csv'}")
    for name, split in assemble(again.config).data.splits.items():
        assert torch.equal(split.indices, expected[name].indices)


def test_a_resumed_run_leaves_the_file_alone(train) -> None:
    done = train("model=ann", "epochs=1")
    (done.folder / "split.csv").write_text("mine")
    assert train(f"resume={done.folder}", "epochs=2").code == 0
    assert (done.folder / "split.csv").read_text() == "mine"
    assert train(f"resume={done.folder}", "epochs=3", "resume_force=true").code == 0
    assert len(rows(done.folder / "split.csv")) == 1797


def test_rows_left_out_are_counted_and_numbers_are_exact(train) -> None:
    lines = [f"{'' if i % 10 == 4 else i},{(i * 7919) % 101 / 7}" for i in range(200)]
    Path("table.csv").write_text("\n".join(["a,y", *lines]))
    done = train("data=csv", "data.path=table.csv", "data.target=y", "data.missing=drop", "model=mlp", "epochs=1")
    splits = rows(done.folder / "split.csv")
    assert [int(row["row"]) for row in splits] == [i for i in range(200) if i % 10 != 4]
    tested = rows(done.folder / "predictions.csv")
    assert all(float(row["truth"]) == (int(row["row"]) * 7919) % 101 / 7 for row in tested)
    errors = [abs(float(row["truth"]) - float(row["prediction"])) for row in tested]
    assert sum(errors) / len(errors) == pytest.approx(done.results["test"]["mae"])


def test_images_have_their_files(train) -> None:
    write_images(Path("photos"), {"ant": 6, "=bee()": 6})
    words = (
        "data=image_folder",
        "data.root=photos",
        "data.cache=false",
        "data.resident=false",
        "model=mlp",
        "epochs=1",
    )
    done = train(*words, "data.test_fraction=0.3")
    assert done.code == 0, done.err
    splits = rows(done.folder / "split.csv")
    names = [f"{name}/{i:03}.png" for name in ("'=bee()", "ant") for i in range(6)]
    assert [row["file"] for row in splits] == names
    tested = rows(done.folder / "predictions.csv")
    assert {row["truth"] for row in tested} == {"ant", "'=bee()"}
    assert all(row["file"].startswith(row["truth"]) for row in tested)
    again = train(*words, f"data.split_file={done.folder / 'split.csv'}", "seed=5")
    assert again.code == 0, again.err
    assert rows(again.folder / "split.csv") == splits


def test_many_classes_have_the_probability_of_the_prediction_alone() -> None:
    split = Split(Arrays(torch.zeros(3, 1), torch.tensor([0, 1, 150])), torch.arange(3), first=40)
    task = Classification(tuple(f"c{i}" for i in range(200)))
    write_predictions(Path.cwd(), task, split, torch.eye(200)[[0, 1, 7]] * 50)
    assert Path("predictions.csv").read_text().splitlines() == [
        *("row,truth,prediction,probability", "40,c0,c0,1", "41,c1,c1,1", "42,c150,c7,1")
    ]


def test_an_overfitted_batch_is_named_once(train) -> None:
    done = train("model=ann", "debug=overfit", "max_steps=2")
    names = [row["split"] for row in rows(done.folder / "split.csv")]
    assert {name: names.count(name) for name in names} == {"train": 64, "test": 64}
