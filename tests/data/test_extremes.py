"""Targets, features and labels that are too large are refused before training."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from trainer.data.dataset import load
from trainer.data.labels import MAX_CLASSES
from trainer.data.map_dataset import from_dataset
from trainer.data.samples import Arrays
from trainer.data.source import Source
from trainer.errors import UserError

FRACTIONS = {"valid_fraction": 0.2, "test_fraction": 0.2, "seed": 0}
WORDS = ("data=csv", "data.path=table.csv", "data.target=y", "model=ann", "epochs=2")


def write_table(feature: str, target: str) -> None:
    rows = [f"{i}{feature},{i % 7},{i}{target}" for i in range(1, 41)]
    Path("table.csv").write_text("\n".join(["a,b,y", *rows, ""]))


@pytest.mark.parametrize("worst", [1e300, -1.1e100, math.nan, math.inf])
def test_a_target_whose_square_is_not_finite_is_refused(worst: float) -> None:
    targets = torch.arange(40.0, dtype=torch.float64)
    targets[3] = worst
    with pytest.raises(UserError, match=r"a target of the train split is .*; expected numbers from -1e100 to 1e100"):
        load(Source({"train": Arrays(torch.randn(40, 3), targets)}, (), "regression"), **FRACTIONS)


def test_targets_of_any_other_size_are_learnt(train) -> None:
    write_table(".5", ".5e98")
    done = train(*WORDS)
    assert done.code == 0, done.err
    assert all(math.isfinite(done.results["test"][name]) for name in ("loss", "mae", "rmse", "r2"))


@pytest.mark.parametrize(
    ("feature", "target", "sentence"),
    [
        (".5", ".5e299", "a target of the train split is"),
        (".5e299", ".5", "column a holds 3.85e+300, and numbers of this size cannot be scaled: data.drop=[a]"),
    ],
)
def test_a_table_of_huge_numbers_is_one_sentence(feature: str, target: str, sentence: str, train, verb) -> None:
    write_table(feature, target)
    done = train(*WORDS)
    assert (done.code, done.folder) == (2, None)
    assert done.err.count("\n") == 1
    assert sentence in done.err
    assert sentence.partition(":")[0] in verb("doctor", *WORDS, "--no-training").out.replace("\n", " ")


@pytest.mark.parametrize("label", [10**6, 10**15])
def test_a_label_that_would_need_terabytes_is_refused(label: int) -> None:
    labels = torch.arange(40) % 2
    labels[5] = label
    with pytest.raises(UserError, match=f"the labels go up to {label:,}; expected classes counted from 0, 10,000 at"):
        from_dataset(lambda: TensorDataset(torch.randn(40, 3), labels), "own.Data")


def test_as_many_named_classes_are_refused() -> None:
    for count in (MAX_CLASSES, MAX_CLASSES + 1):
        source = Source({"train": Arrays(torch.randn(40, 3), torch.arange(40) % 2)}, tuple(map(str, range(count))))
        if count == MAX_CLASSES:
            load(source, **FRACTIONS)
        else:
            with pytest.raises(UserError, match="the labels go up to 10,000"):
                load(source, **FRACTIONS)
