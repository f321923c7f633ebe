"""Training recipes: averaged weights, balanced classes, weight decay on the right parameters."""

from __future__ import annotations

import copy
import csv

import pytest
import torch
from torch.nn import functional as F

from helpers.components import assemble
from helpers.trees import same_tree
from trainer.training import checkpoint
from trainer.training.step import train_step

pytestmark = pytest.mark.slow


def test_the_average_is_the_formula_stepped_by_hand(job) -> None:
    parts = assemble(job("data=wine", "model=mlp", "model.norm=batch", "ema.decay=0.9", "precision=float64").config)
    parts.population.train()
    expected = None
    for batch in parts.train.epoch(0):
        train_step(parts.population, [batch])
        weights = copy.deepcopy(parts.state.model.state_dict())
        if expected is None:
            expected = weights
        for name, value in weights.items():
            if value.is_floating_point():
                expected[name] = 0.9 * expected[name] + 0.1 * value
    found = parts.state.average.module.state_dict()
    for name, value in expected.items():
        if value.is_floating_point():
            torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-14)


def test_the_average_is_what_is_validated_tested_and_kept(train, job) -> None:
    words = ["data=wine", "model=mlp", "ema.decay=0.8", "epochs=4"]
    done = train(*words)
    assert done.code == 0, done.err
    best = checkpoint.load(done.folder / "checkpoints" / "best.pt")
    parts = assemble(job(*words).config)
    parts.state.model.load_state_dict(best["model"])
    parts.state.model.eval()
    split = parts.data.splits["test"]
    inputs = parts.data.prepare(split.samples.take(split.indices))
    loss = F.cross_entropy(parts.state.model(inputs), split.targets).item()
    assert done.results["test"]["loss"] == pytest.approx(loss, rel=1e-6)
    last = checkpoint.load(done.folder / "checkpoints" / "last.pt")["run"]
    assert not torch.equal(last["model"]["1.weight"], last["average"]["module.1.weight"])  # both are there


def test_a_resumed_average_is_the_uninterrupted_one(train) -> None:
    words = ["data=wine", "model=mlp", "model.norm=batch", "ema.decay=0.95", "checkpoint.every=1ep", "test=false"]
    stopped = train(*words, "epochs=2").folder
    assert train(f"resume={stopped}", "epochs=5").code == 0
    whole = train(*words, "epochs=5").folder
    a, b = (checkpoint.load(f / "checkpoints" / "last.pt")["run"] for f in (stopped, whole))
    assert same_tree(a["average"], b["average"])
    assert same_tree(a["best"]["weights"], b["best"]["weights"])


def uneven_table() -> None:
    """270 samples of class a, 30 of class b."""
    with open("table.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["x", "z", "y"])
        writer.writerows([i % 17, i % 5, "b" if i % 10 == 0 else "a"] for i in range(300))


WORDS = ["data=csv", "data.path=table.csv", "data.target=y", "model=mlp"]


def test_the_sampler_draws_both_classes_equally_often(job) -> None:
    uneven_table()
    parts = assemble(job(*WORDS, "data.balance=sampler").config)
    targets = torch.cat([y for epoch in range(50) for _, y in parts.train.epoch(epoch)])
    # About 9,600 draws: four standard errors of a share of one half are 0.02.
    assert targets.double().mean().item() == pytest.approx(0.5, abs=0.02)
    first, again = (torch.cat([y for _, y in parts.train.epoch(3)]) for _ in range(2))
    assert torch.equal(first, again)
    valid = torch.cat([y for _, y in parts.valid.epoch(0)])
    assert valid.double().mean().item() == pytest.approx(0.1, abs=0.03)  # what is judged stays as it is


def test_the_balanced_loss_is_the_weighted_one(job) -> None:
    uneven_table()
    a, b = (assemble(job(*WORDS, word).config) for word in ("data.balance=loss", "loss.weight=balanced"))
    outputs, targets = torch.randn(40, 1), torch.arange(40) % 2
    assert a.population.criterion(outputs, targets) == b.population.criterion(outputs, targets)


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_weights_of_classes_go_with_every_precision(precision: str, train) -> None:
    uneven_table()
    done = train(*WORDS, "data.balance=loss", f"precision={precision}", "epochs=1")
    assert done.code == 0, done.err


def test_a_regression_has_nothing_to_balance(train) -> None:
    done = train("data=diabetes", "model=mlp", "data.balance=sampler")
    assert done.code == 2
    assert "no classes to balance" in done.err


def test_decay_of_matrices_only(job) -> None:
    words = ["model=mnist_classifier", "optim.decay_all=false", "optim.weight_decay=0.3"]
    matrices, others = assemble(job(*words).config).state.optimizer.param_groups
    assert {p.ndim for p in matrices["params"]} == {2}
    assert {p.ndim for p in others["params"]} == {1}
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
