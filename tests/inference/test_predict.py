"""`trainer predict`: files, folders, patterns, lists and tables; the same results as the run's own test."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import trainer
from helpers.runs import own_test
from helpers.words import photo_words, table_words
from trainer.data.samples import Arrays
from trainer.errors import UserError
from trainer.inference.inputs import Sample, chunks

pytestmark = pytest.mark.slow


def read_csv(path: str) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def of_json(path: str, classes: tuple[str, ...]) -> torch.Tensor:
    """[N, classes] of a file of predictions with all classes."""
    records = json.loads(Path(path).read_text())
    rows = [{entry["class"]: entry["probability"] for entry in record["top"]} for record in records]
    return torch.tensor([[row[name] for name in classes] for row in rows])


def test_a_lone_file_predicts_the_test_folder_as_the_run_did(trained: Callable[..., Path], verb, photos: Path) -> None:
    run = trained(*photo_words(photos))
    Path("alone").mkdir()
    shutil.copy(run / "checkpoints" / "best.pt", "alone")
    done = verb("predict", "alone/best.pt", photos / "test", "--top", 3, "--out", "all.json")
    assert (done.code, done.out, done.err) == (0, "all.json: 36 predictions\n", "")
    _, outputs, targets = own_test(run)
    assert torch.equal(of_json("all.json", ("ant", "bee", "cow")), outputs.softmax(1))
    records = json.loads(Path("all.json").read_text())
    counts = np.zeros((3, 3), int)
    for record in records:
        true, found = Path(record["input"]).parent.name, record["top"][0]["class"]
        counts[(["ant", "bee", "cow"].index(true), ["ant", "bee", "cow"].index(found))] += 1
    assert counts.tolist() == json.loads((run / "results.json").read_text())["test"]["confusion_matrix"]
    assert len(targets) == 36
    assert [record["input"] for record in records] == [str(p) for p in sorted((photos / "test").rglob("*.*"))]


def test_a_table_is_predicted_as_the_run_did(trained: Callable[..., Path], verb, table: Path) -> None:
    run = trained(*table_words(table))
    raw, outputs, _ = own_test(run)
    colours = ("blue", "green", "red")
    with open("test.csv", "w") as file:  # columns in another order, with the target and more, other separator
        writer = csv.writer(file)
        writer.writerow(["weight", "more", "colour", "kind", "height"])
        for height, colour, weight in raw.tolist():
            shown = "" if weight != weight else repr(weight)
            writer.writerow([shown, "x", colours[int(colour)], "big", repr(height)])
    done = verb("predict", run, "test.csv", "--out", "test.json")
    assert done.code == 0, done.err
    positive = outputs.sigmoid()
    assert torch.equal(of_json("test.json", ("big", "small")), torch.cat([1 - positive, positive], 1))
    assert json.loads(Path("test.json").read_text())[0]["input"] == "test.csv:2"
    assert verb("predict", run, "test.csv", "--out", "test.csv.csv", "--top", 1).code == 0
    rows = read_csv("test.csv.csv")
    assert list(rows[0]) == ["input", "class", "probability", "error"]
    assert [row["class"] for row in rows] == ["small" if p > 0.5 else "big" for p in positive[:, 0]]


def test_a_regression_writes_values(trained: Callable[..., Path], verb) -> None:
    run = trained("data=diabetes", "model=mlp", "epochs=40", "optim.lr=1e-2")
    raw, _, _ = own_test(run)
    model = trainer.load(run)
    with open("rows.tsv", "w") as file:
        print(*model.columns, sep="\t", file=file)
        for row in raw.tolist():
            print(*row, sep="\t", file=file)
    assert verb("predict", run, "rows.tsv", "--out", "values.csv").code == 0
    rows = read_csv("values.csv")
    assert [float(row["value"]) for row in rows] == model.predict(raw).tolist()
    assert verb("predict", run, "rows.tsv").out.startswith("rows.tsv:2: ")


def write_digits(folder: str, count: int) -> None:
    from trainer.data.sources import digits

    Path(folder).mkdir()
    part = digits().splits["train"]
    assert isinstance(part, Arrays)
    for number, image in enumerate(part.inputs[:count]):
        Image.fromarray(image[0].numpy()).save(f"{folder}/{number:03}.png")


def test_what_cannot_be_used_is_reported_and_the_rest_goes_on(
    trained: Callable[..., Path], verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained("epochs=3")
    write_digits("some", 3)
    Path("some/001b.png").write_text("no image")
    Path("some/notes.txt").write_text("left out, as it has another ending")
    Path("empty").mkdir()
    monkeypatch.setattr(sys, "stdin", io.StringIO("some/000.png\n\nnowhere.png\n"))
    words = ("some", "some/*2.png", "none*.png", "empty", "-", "some/notes.txt")
    done = verb("predict", run, *words, "--top", 1, "--out", "found.csv")
    assert done.code == 1
    rows = read_csv("found.csv")
    problems = {row["input"]: row["error"] for row in rows if row["error"]}
    assert problems == {
        "some/001b.png": "not a readable image (no format that Pillow knows)",
        "none*.png": "no file matches this pattern",
        "empty": "no images in this folder",
        "nowhere.png": "no such file",
        "some/notes.txt": "not a readable image (no format that Pillow knows)",
    }
    good = [row["input"] for row in rows if row["class"]]
    assert good == ["some/000.png", "some/001.png", "some/002.png", "some/002.png", "some/000.png"]
    assert done.err.splitlines()[0] == (
        "trainer predict: error: some/001b.png: not a readable image (no format that Pillow knows)."
    )
    assert done.err.splitlines()[-1] == "trainer predict: error: 5 of 10 inputs could not be used"


@pytest.mark.usefixtures("no_hang")
@pytest.mark.parametrize("words", [("epochs=3",), ("data=wine", "model=mlp", "epochs=1")])
def test_no_pipe_is_waited_for(trained: Callable[..., Path], verb, words: tuple[str, ...]) -> None:
    os.mkfifo("pipe")
    done = verb("predict", trained(*words), "pipe")
    assert (done.code, done.err.splitlines()[0]) == (1, "trainer predict: error: pipe: not a regular file.")


def test_printed_predictions(trained: Callable[..., Path], verb) -> None:
    run = trained("epochs=3")
    write_digits("some", 2)
    done = verb("predict", run, "some", "--top", 2)
    assert done.code == 0
    first, second = done.out.splitlines()
    probability, label = trainer.load(run).predict("some/000.png")[0].max(0)
    assert first.startswith(f"some/000.png: {label} {probability:.2%}, ")
    assert first.count("%") == 2
    assert second.startswith("some/001.png: ")


def test_a_table_with_bad_rows(trained: Callable[..., Path], verb, table: Path) -> None:
    Path("bad.csv").write_text("height,colour,weight\n170,red,70\ntall,red,70\n171,,60\n")
    Path("other.csv").write_text("height;hue;weight\n170;red;70\n")
    Path("ragged.csv").write_text(
        'height,colour,weight\n170,red,70\n\n1,2\n\n,,\n170,"r"ed,70\n1e300,red,70\n171,red,71\n'
    )
    Path("image.png").write_bytes(b"")
    run = trained(*table_words(table))
    done = verb("predict", run, "bad.csv", "other.csv", "ragged.csv", "image.png", "--out", "found.json")
    assert done.code == 1
    found = json.loads(Path("found.json").read_text())
    errors = [(r["input"], r["error"]) for r in found if r["error"]]
    assert errors == [
        ("bad.csv:3", "column height: 'tall' is not a finite number"),
        ("other.csv", "the model needs the column colour, which is missing"),
        ("ragged.csv:4", "2 cells, where the header has 3"),
        ("ragged.csv:7", "not a row of a delimited file: ',' expected after '\"'"),
        ("ragged.csv:8", "the model's output for it is not finite"),
        ("image.png", "an image; the model takes the rows of a table"),
    ]
    assert all(record["top"] is None for record in found if record["error"])
    # Lines are those of an editor; what stands beside a bad row is predicted as it is alone; missing values are filled.
    good = {record["input"]: record["top"] for record in found if record["top"]}
    assert list(good) == ["bad.csv:2", "bad.csv:4", "ragged.csv:2", "ragged.csv:6", "ragged.csv:9"]
    Path("alone.csv").write_text("height,colour,weight\n171,red,71\n")
    assert verb("predict", run, "alone.csv", "--out", "alone.json").code == 0
    alone = {entry["class"]: entry["probability"] for entry in json.loads(Path("alone.json").read_text())[0]["top"]}
    assert {e["class"]: e["probability"] for e in good["ragged.csv:9"]} == pytest.approx(alone, abs=1e-6)
    with pytest.raises(UserError, match=r"sample 1: the model's output for it is not finite"):
        trainer.load(run).predict([[170, "red", 70], [1e300, "red", 70]])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("nowhere", "x.png"), "nowhere: there is no such run: expected a run folder or a checkpoint file."),
        (("RUN", "x.png", "--out", "x.txt"), "--out x.txt: expected a file that ends in .csv or .json"),
        (("RUN", "x.png", "--top", "0"), "Invalid value for '--top'"),
        (("RUN", "x.png", "--device", "cuda:77"), "device=cuda:77: t"),
        (("RUN",), "Missing argument 'INPUTS...'"),
        (("RUN", "x.png", "--calibrated"), "calibration.json: there is no such file. Fit it: trainer evaluate"),
    ],
)
def test_wrong_usage_is_a_sentence(trained: Callable[..., Path], verb, words, sentence: str) -> None:
    done = verb("predict", *(trained("epochs=3") if word == "RUN" else word for word in words))
    assert done.code == 2
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) == 1


def test_a_file_of_predictions_is_whole_or_not_there(trained: Callable[..., Path], verb, photos: Path) -> None:
    Path("found.csv").write_text("what stood there")
    run = trained("epochs=3")
    assert verb("predict", run, photos / "nothing", "--out", "found.csv", "--calibrated").code == 2
    assert Path("found.csv").read_text() == "what stood there"
    assert [path.name for path in Path().iterdir()] == ["found.csv"]


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, []), (1, [1]), (4, [4]), (5, [5]), (6, [4, 2]), (9, [4, 5]), (12, [4, 4, 4])]
)
def test_inputs_are_cut_as_a_test_part_is(count: int, sizes: list[int]) -> None:
    found = list(chunks((Sample(str(n), torch.zeros(1)) for n in range(count)), 4))
    assert list(map(len, found)) == sizes
    # What is not readable does not count, and stands where it stood.
    mixed = (Sample(str(n), None if n % 2 else torch.zeros(1)) for n in range(2 * count))
    parts = list(chunks(mixed, 4))
    assert [sum(s.raw is not None for s in part) for part in parts] == sizes
    assert [int(s.name) for part in parts for s in part] == list(range(2 * count))


def test_few_inputs_are_held_at_a_time() -> None:
    """However many there are: each is made when it is needed."""
    made = 0

    def endless():
        nonlocal made
        while True:
            made += 1
            yield Sample(str(made), torch.zeros(1))

    found = chunks(endless(), 10)
    for number in range(1, 6):
        assert len(next(found)) == 10
        assert made <= 10 * number + 2
