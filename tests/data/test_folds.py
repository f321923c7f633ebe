"""Stratified cross-validation: disjoint folds, every sample validated once, grouped in the leaderboard."""

from __future__ import annotations

import csv
import statistics

import pytest
import torch
from sklearn.model_selection import StratifiedKFold

from helpers.components import assemble
from trainer.data.split import fold_of_each

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("folds", [2, 3, 5, 7])
def test_folds_are_as_even_as_scikit_learns(folds: int) -> None:
    targets = torch.tensor([0] * 50 + [1] * 31 + [2] * 7)[
        torch.randperm(88, generator=torch.Generator().manual_seed(1))
    ]
    ours = fold_of_each(targets, folds, seed=3)
    theirs = torch.empty_like(ours)
    for number, (_, out) in enumerate(StratifiedKFold(folds, shuffle=True, random_state=0).split(targets, targets)):
        theirs[out] = number
    for label in range(3):
        counts = [torch.bincount(f[targets == label], minlength=folds) for f in (ours, theirs)]
        assert counts[0].sort().values.tolist() == counts[1].sort().values.tolist()
    assert int(torch.bincount(ours).max() - torch.bincount(ours).min()) <= 1
    assert torch.equal(ours, fold_of_each(targets, folds, seed=3))
    assert not torch.equal(ours, fold_of_each(targets, folds, seed=4))


@pytest.mark.parametrize("data", ["iris", "diabetes"])
def test_each_sample_validates_once_and_none_is_tested(data: str, job) -> None:
    words = [f"data={data}", "model=mlp", "data.folds=4"]
    parts = [assemble(job(*words, f"data.fold={fold}").config).data.splits for fold in range(4)]
    valid = torch.cat([splits["valid"].indices for splits in parts])
    assert len(valid.unique()) == len(valid)
    for splits in parts:
        everything = torch.cat([splits[name].indices for name in ("train", "valid", "test")])
        assert torch.equal(everything.sort().values, torch.arange(len(everything)))
        assert torch.equal(splits["test"].indices, parts[0]["test"].indices)
        assert torch.equal(
            torch.cat([splits["train"].indices, splits["valid"].indices]).sort().values, valid.sort().values
        )


def test_the_leaderboard_has_the_mean_over_folds(train) -> None:
    done = train("-m", "data=iris", "model=mlp", "data.folds=3", "data.fold=range(3)", "optim.lr=1e-3,1e-2", "epochs=3")
    assert done.code == 0, done.err
    with open(done.folder / "leaderboard.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(done.folder / "leaderboard_groups.csv", newline="") as file:
        groups = {row["optim.lr"]: row for row in csv.DictReader(file)}
    for lr, group in groups.items():
        values = [float(row["valid_loss"]) for row in rows if row["optim.lr"] == lr]
        assert float(group["mean valid_loss"]) == pytest.approx(statistics.fmean(values))
        assert float(group["std"]) == pytest.approx(statistics.stdev(values))
        assert int(group["n"]) == 3


@pytest.mark.parametrize("words", [["data.folds=3"], ["data.fold=0"], ["data.folds=3", "data.fold=3"]])
def test_a_fold_needs_both_numbers(words: list[str], train) -> None:
    done = train("data=iris", "model=mlp", *words)
    assert done.code == 2
    assert "data.fold=range(" in done.err
