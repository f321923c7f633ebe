"""Divisions by group, in order, by a column and by a file: nothing on two sides, sizes even, the same everywhere."""

from __future__ import annotations

import csv
import io
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from sklearn.model_selection import StratifiedGroupKFold

from helpers.components import assemble
from helpers.datasets import write_images, write_visits
from helpers.runs import REPOSITORY
from trainer.data.dataset import load
from trainer.data.split import SPLITS, by_group, fold_of_each_group, last
from trainer.data.tables.dates import parse_date
from trainer.data.tables.file import standard_input
from trainer.data.tables.table import csv_table
from trainer.errors import UserError


def many_groups(count: int = 60, classes: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Groups of 1 to 20 samples, each with a class that most of its samples have."""
    draw = np.random.default_rng(seed)
    sizes, common = draw.integers(1, 21, count), draw.integers(0, classes, count)
    groups = np.repeat(np.arange(count), sizes)
    targets = np.where(draw.random(len(groups)) < 0.7, common[groups], draw.integers(0, classes, len(groups)))
    order = draw.permutation(len(groups))
    return torch.from_numpy(groups[order]), torch.from_numpy(targets[order])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_groups_are_held_out_whole_and_near_the_fraction_of_each_class(fraction: float, seed: int) -> None:
    groups, targets = many_groups(seed=seed)
    kept, out = by_group(groups, targets, fraction, seed, "key")
    assert torch.equal(torch.cat([kept, out]).sort().values, torch.arange(len(groups)))
    assert not set(groups[kept].tolist()) & set(groups[out].tolist())
    assert len(out) / len(groups) == pytest.approx(fraction, abs=0.02)
    for label in range(3):
        assert (targets[out] == label).sum() / (targets == label).sum() == pytest.approx(fraction, abs=0.1)
    assert torch.equal(out, by_group(groups, targets, fraction, seed, "key")[1])
    assert not torch.equal(out, by_group(groups, targets, fraction, seed + 1, "key")[1])


@pytest.mark.parametrize("folds", [2, 5])
@pytest.mark.parametrize("regression", [False, True])
def test_folds_of_groups_are_as_even_as_scikit_learns(folds: int, regression: bool) -> None:
    groups, targets = many_groups()
    labels = torch.zeros_like(targets) if regression else targets
    ours = fold_of_each_group(groups, targets.double() if regression else targets, folds, seed=3)
    theirs = torch.empty_like(ours)
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(labels, labels, groups)
    for number, (_, out) in enumerate(split):
        theirs[out] = number
    for group in groups.unique():
        assert len(ours[groups == group].unique()) == 1

    def spread(fold_N: torch.Tensor) -> float:
        """The largest deviation of a fold's share of a class from an even one."""
        shares = torch.stack([torch.bincount(fold_N[labels == label], minlength=folds) for label in labels.unique()])
        return float((shares / shares.sum(1, keepdim=True) - 1 / folds).abs().max())

    assert spread(ours) <= spread(theirs) + 0.02
    assert not torch.equal(ours, fold_of_each_group(groups, targets, folds, seed=4))


def test_the_last_values_are_held_out_and_equal_ones_stay_together() -> None:
    order = torch.tensor([5.0, 1, 2, 2, 2, 3, 4, 9, 9, 9])
    kept, out = last(order, 0.2, "key")
    assert out.tolist() == [7, 8, 9]  # 30 % is nearer to 20 % than 0 %, and the three are not divided
    assert order[kept].max() < order[out].min()
    with pytest.raises(UserError, match=r"key=0\.2: none can be held out"):
        last(torch.ones(5), 0.2, "key")


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("1970-01-02", 1.0),
        ("1969-12-31 12:00", -0.5),
        ("2024-02-29T06:00:00Z", 19782.25),
        ("2024-02-29T08:00:00.0+02:00", 19782.25),
        *((text, None) for text in ("2023-02-29", "20240229", "2024-W09-4", "29.2.2024", "2024-02-29x", "٢٠٢٤-02-29")),
    ],
)
def test_dates_are_days(text: str, days: float | None) -> None:
    assert parse_date(text) == days


def parts(job, *words: str) -> dict[str, list[dict[str, str]]]:
    """The rows of each split."""
    table = ("data=csv", "data.path=visits.csv", "data.target=ill", "model=mlp")
    splits = assemble(job(*table, *words).config).data.splits
    with open("visits.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    samples = splits["train"].samples
    assert [f"{float(row['size']):.4f}" for row in rows] == [f"{v:.4f}" for v in samples.inputs[:, 0].tolist()]
    return {name: [rows[i] for i in split.indices.tolist()] for name, split in splits.items()}


def test_a_group_is_in_one_split_and_one_fold(job) -> None:
    write_visits()
    words = ("data.group=patient", "data.features=[size]")
    patients = {name: {row["patient"] for row in rows} for name, rows in parts(job, *words).items()}
    assert sum(map(len, patients.values())) == len(set().union(*patients.values())) == 40
    folds = [parts(job, *words, "data.folds=4", f"data.fold={fold}") for fold in range(4)]
    valid = [{row["patient"] for row in each["valid"]} for each in folds]
    assert sum(map(len, valid)) == len(set().union(*valid)) == 32  # 8 are tested
    assert all(
        not {row["patient"] for row in each["train"]} & each_valid
        for each, each_valid in zip(folds, valid, strict=True)
    )


def test_time_runs_from_train_to_test(job) -> None:
    write_visits()
    rows = parts(job, "data.order=day", "data.features=[size]")
    days = {name: [row["day"] for row in each] for name, each in rows.items()}
    assert max(days["train"]) < min(days["valid"]) <= max(days["valid"]) < min(days["test"])
    assert len(days["test"]) == pytest.approx(40, abs=4)


def test_a_class_that_only_comes_later_is_named() -> None:
    lines = [f"{i},{i % 7},{'c' if i > 90 else 'ab'[i % 2]}\n" for i in range(100)]
    Path("late.csv").write_text("".join(["day,a,y\n", *lines]))
    data = load(csv_table("late.csv", "y", order="day"), valid_fraction=0.2, test_fraction=0.2, seed=0)
    assert "no sample to train on has the class c" in data.notes
    assert "in order of day: train 0 to 63, valid 64 to 79, test 80 to 99" in data.notes


def test_a_column_or_a_file_divides(job) -> None:
    write_visits()
    by_column = parts(job, "data.split=part", "data.drop=[patient,day]")
    assert {name: {row["part"] for row in rows} for name, rows in by_column.items()} == {
        "train": {"train"},
        "valid": {"val"},
        "test": {"Test"},
    }
    names = ["train", "valid", "test", "train", ""]
    Path("own.csv").write_text("split,row\n" + "".join(f"{names[i % 5]},{i}\n" for i in reversed(range(200))))
    assert parts(job, "data.split_file=own.csv", "data.features=[size]") == by_column


def test_a_file_divides_images_by_name(job) -> None:
    write_images(Path("photos"), {"ant": 6, "bee": 6})
    Path("own.csv").write_text(
        "file,split\n"
        + "".join(
            f"{name}/{i:03}.png,{('train', 'valid', 'test')[i % 3]}\n" for name in ("bee", "ant") for i in range(6)
        )
    )
    words = ("data=image_folder", "data.root=photos", "data.cache=false", "model=mlp", "data.split_file=own.csv")
    splits = assemble(job(*words).config).data.splits
    assert {name: split.indices.tolist() for name, split in splits.items()} == {
        name: [first + i for first in (0, 3, 6, 9)] for i, name in enumerate(SPLITS)
    }
    assert splits["test"].samples.file_names[11] == "bee/005.png"


ROWS = "".join(f"{i},train\n" for i in range(198))
SENTENCES = {
    "no column": (["data.group=person"], "data.group: visits.csv has no column person"),
    "group and order": (["data.group=patient", "data.order=day"], "data.order=day: samples cannot be divided in order"),
    "order and folds": (["data.order=day", "data.folds=3", "data.fold=0"], "folds validate on samples from before"),
    "not a date": (["data.order=patient"], "data.order=patient: row 2 is 'p0'; expected numbers, or dates such as"),
    "not a split": (
        ["data.split=patient"],
        "data.split=patient: row 2 is 'p0'; expected train, valid, test or nothing",
    ),
    "split and folds": (["data.split=part", "data.folds=3", "data.fold=0"], "has a validation split of its own"),
    "split and group": (["data.split=part", "data.group=patient"], "part divides 40 of its groups between splits: p0"),
    "the target": (["data.group=ill"], "data.group=ill: it is the target"),
    "a list": (["data.group=[patient]"], "data.group=.*: expected the name of one column"),
    "no file": (["data.split_file=none.csv"], "data.split_file=none.csv: no such file"),
    "other columns": (["data.split_file=visits.csv"], "expected a column split, and a column row or file"),
    "too short": (["data.split_file=short.csv"], "says no split for 2 of 200 samples, the first is row 198"),
    "too long": (["data.split_file=long.csv"], "it names 201 samples, and the data has 200"),
    "twice": (["data.split_file=twice.csv"], "it names a row more than once"),
    "another word": (["data.split_file=word.csv"], "row 200: 'maybe' is no split; expected train, valid, test"),
    "no number": (["data.split_file=number.csv"], "row 200: '-1' is not a row"),
    "no train": (["data.split_file=valid.csv"], "valid.csv assigns no sample to train"),
    "by name": (["data.split_file=file.csv"], "it has no column row, and the samples of this data are not files"),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_a_division_that_cannot_be_is_a_sentence(name: str, job) -> None:
    write_visits()
    for path, text in {
        "short.csv": f"row,split\n{ROWS}",
        "long.csv": f"row,split\n{ROWS}198,test\n199,test\n200,test\n",
        "twice.csv": f"row,split\n{ROWS}198,test\n198,test\n",
        "word.csv": f"row,split\n{ROWS}198,maybe\n",
        "number.csv": f"row,split\n{ROWS}-1,test\n",
        "valid.csv": "row,split\n" + "".join(f"{i},valid\n" for i in range(200)),
        "file.csv": "file,split\na.png,train\n",
    }.items():
        Path(path).write_text(text)
    words, sentence = SENTENCES[name]
    with pytest.raises(UserError, match=sentence):
        parts(job, "data.features=[size]", *words)


@pytest.mark.slow
def test_a_run_resumes_and_is_evaluated_only_as_it_was_divided(train, verb) -> None:
    write_visits()
    Path("own.csv").write_text("row,split\n" + "".join(f"{i},{SPLITS[i % 3]}\n" for i in range(200)))
    words = ("data=csv", "data.path=visits.csv", "data.target=ill", "data.features=[size]", "model=mlp")
    done = train(*words, "data.split_file=own.csv", "epochs=1")
    assert done.code == 0, done.err
    assert verb("evaluate", done.folder).code == 0
    text = Path("own.csv").read_text()
    Path("own.csv").rename("moved.csv")
    assert "no such file" in verb("evaluate", done.folder).err
    assert verb("evaluate", done.folder, "data.split_file=moved.csv").code == 0
    Path("own.csv").write_text(text.replace("0,train", "0,test", 1))
    assert "divided otherwise than in training" in verb("evaluate", done.folder).err
    again = train(f"resume={done.folder}", "epochs=2")
    assert "data.split_file=own.csv: the samples are divided otherwise than when this run began" in again.err
    assert train(f"resume={done.folder}", "epochs=2", "data.split_file=moved.csv").code == 0


@pytest.mark.slow
def test_the_examples_of_the_docs_train(train, monkeypatch: pytest.MonkeyPatch) -> None:
    write_visits(words=("train", "val", "test", "train"))
    table = pandas.read_csv("visits.csv", parse_dates=["day"])
    table.to_parquet("visits.parquet")
    Path("own.csv").write_text("row,split\n" + "".join(f"{i},{SPLITS[i % 3]}\n" for i in range(200)))
    text = (REPOSITORY / "docs" / "data.md").read_text()
    commands = [
        re.sub(r"  +#.*", "", line).rpartition("| ")[2]
        for section in ("Tables", "Splits")
        for line in re.search(rf"## {section}\n.*?```sh\n(.*?)```", text, re.DOTALL)[1].splitlines()
    ]
    assert len(commands) == 7
    standard_input.cache_clear()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("visits.csv").read_bytes())))
    for command in commands:
        done = train(*shlex.split(command)[1:], "max_steps=2", "threads=1")
        assert done.code == 0, (command, done.err)
