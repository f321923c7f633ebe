"""The closing lines of a run: each is printed if and only if it is true, and the printed command goes on."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from sklearn import metrics as sk

from helpers.components import assemble
from helpers.runs import CompletedCommand, exit_code
from trainer.records.metrics import moment, read_metrics, x_axis
from trainer.records.record import read
from trainer.run.closing import _constant_loss
from trainer.training import session

NAMES = ("schedule", "chance", "improving")
STILL = "optim.lr=1e-30"  # changes no weight
IRIS = ("data=iris", "model=mlp", "test=false")


def remarks(done: CompletedCommand) -> dict[str, str]:
    """Return the closing lines that explain the curves, by name."""
    _, _, end = done.out.partition("\nstopped ")
    return {name: line for name in NAMES for line in re.findall(rf"^{name} +(.*)$", end, re.MULTILINE)}


def next_words(done: CompletedCommand) -> list[str]:
    """Return the words of the suggested command, as a shell splits them."""
    (line,) = re.findall(r"^next +(train .*)$", done.out, re.MULTILINE)
    return shlex.split(line, comments=True)[1:]


# The next command


def test_the_command_after_max_steps_goes_on_to_the_end(train) -> None:
    done = train(*IRIS, "epochs=2", "batch_size=12", "max_steps=3", "patience=null")
    steps = []
    while "max_steps" in done.out:
        steps.append(done.results["steps"])
        done = train(*next_words(done))
        assert done.code == 0, done.err
    assert steps == [3, 6, 12]
    assert (done.results["steps"], done.results["epochs"]) == (16, 2)
    assert train(*next_words(done)).results["epochs"] == 4


@pytest.mark.slow
def test_the_command_after_a_last_step_that_is_also_the_limit_raises_both(train) -> None:
    done = train(*IRIS, "epochs=1", "batch_size=12", "max_steps=8")
    assert next_words(done)[1:] == ["epochs=2", "max_steps=null"]
    assert train(*next_words(done)).results["epochs"] == 2


@pytest.mark.slow
def test_the_command_after_max_minutes_goes_on(train, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock of this test takes a second."""
    seconds = itertools.count()
    monkeypatch.setattr(session, "time", SimpleNamespace(perf_counter=lambda: float(next(seconds))))
    done = train(*IRIS, "epochs=9", "max_minutes=0.5")
    assert "max_minutes=0.5 reached" in done.out
    steps = done.results["steps"]
    assert train(*next_words(done)).results["steps"] > steps > 0


@pytest.mark.slow
@pytest.mark.parametrize("words", [["patience=1", STILL], ["schedule=cosine"], ["schedule=cosine", "seed=4"]])
def test_the_command_of_a_run_that_is_over_starts_another_one(words: list[str], train) -> None:
    done = train(*IRIS, "epochs=3", *words)
    another = train(*next_words(done))
    assert another.code == 0, another.err
    assert another.folder != done.folder
    assert another.results["seed"] == (5 if "seed=4" in words else 1)


# What the curves say


@pytest.mark.slow
def test_a_run_that_learns_and_ends_as_planned_has_no_remarks(train) -> None:
    done = train(
        "data=wine", "model=mlp", "epochs=40", "optim.lr=0.03", "schedule=cosine", "patience=null", "test=false"
    )
    assert done.results["best_epoch"] < 40
    assert remarks(done) == {}


@pytest.mark.slow
def test_a_last_validation_that_was_the_best_is_named(train) -> None:
    done = train("data=wine", "model=mlp", "epochs=2", "test=false")
    assert remarks(done) == {"improving": "the last validation was the best (epoch 2)"}
    assert next_words(done)[1:] == ["epochs=4"]
    for words in (["epochs=1"], ["epochs=2", "schedule=cosine"], ["debug=fast"]):  # they tell nothing
        done = train("data=wine", "model=mlp", "test=false", *words)
        assert done.results["best_epoch"] == done.results["epochs"]
        assert "improving" not in remarks(done)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["schedule=cosine", "patience=1", STILL], "CosineAnnealingLR had 16 of 20 steps left"),
        (["schedule=cosine", "schedule.warmup_epochs=3", "max_steps=5"], "CosineAnnealingLR had 14 of 14 steps left"),
        (["schedule=one_cycle", "max_steps=7"], "OneCycleLR had 13 of 20 steps left"),
        (["schedule=cosine", "schedule.interval=epoch", "max_steps=7"], "CosineAnnealingLR had 7 of 10 epochs left"),
        (["schedule.warmup_epochs=3", "max_steps=5"], "the warm-up had 1 of 6 steps left"),
        (["schedule=cosine", "schedule.T_max=4", "max_steps=7"], None),
        (["schedule=step", "max_steps=7"], None),
        (["schedule=plateau", "max_steps=7"], None),
    ],
)
def test_a_schedule_that_was_cut_short_is_named(words: list[str], line: str | None, train) -> None:
    done = train(*IRIS, "epochs=10", *words)
    found = remarks(done).get("schedule")
    assert (found and found.partition(";")[0]) == line
    if found:
        rows = read_metrics(done.folder / "metrics.csv")
        assert found.endswith(f"ended at {rows[-1].lr:.3g}")


@pytest.mark.slow
@pytest.mark.parametrize("data", ["iris", "breast_cancer", "diabetes"])
def test_a_run_at_chance_is_named(data: str, train) -> None:
    words = [f"data={data}", "model=mlp", "epochs=2", STILL, "test=false", "plots=false"]
    line = remarks(train(*words))["chance"]
    command = shlex.split(line.partition(" Try ")[2].partition(", or debug=overfit")[0])
    assert command == ["trainer", "doctor", *words]


@pytest.mark.slow
def test_a_users_loss_is_not_called_with_constant_outputs(train) -> None:
    text = "from torch.nn import CrossEntropyLoss\n\nclass Pairs(CrossEntropyLoss):\n    def forward(self, x, y):\n"
    Path("pairs.py").write_text(text + "        assert len(x) > 1\n        return super().forward(x, y)\n")
    done = train(*IRIS, "epochs=2", STILL, "loss._target_=pairs.Pairs")
    assert done.code == 0, done.err
    assert "chance" not in remarks(done)


@pytest.mark.slow
def test_a_resumed_run_at_chance_is_named_without_the_words_that_resumed_it(train) -> None:
    done = train(*next_words(train(*IRIS, "epochs=2", STILL, "max_steps=1")))
    assert "Try trainer doctor, or debug=overfit" in remarks(done)["chance"]


CONSTANTS = [
    "data=wine",
    "data=wine loss.weight=[1,5,2]",
    "data=wine loss=nll model.output=log_probabilities model.final=log_softmax",
    "data=breast_cancer",
    "data=breast_cancer loss.weight=[1,5]",
    "data=breast_cancer loss=bce model.output=probabilities model.final=sigmoid loss.weight=balanced",
    "data=breast_cancer loss=cross_entropy",
]


@pytest.mark.slow
@pytest.mark.parametrize("words", CONSTANTS)
def test_the_constant_loss_is_the_least_that_scikit_learn_finds(words: str, job) -> None:
    parts = assemble(job(*words.split(), "model=mlp", "precision=float64").config)
    targets = parts.data.splits["valid"].targets
    weights = (
        torch.ones(len(targets), dtype=torch.float64) if parts.class_weights is None else parts.class_weights[targets]
    )
    shares = torch.stack([weights[targets == c].sum() for c in range(len(parts.data.task.classes))]) / weights.sum()
    expected = sk.log_loss(targets, shares.expand(len(targets), -1), sample_weight=weights)
    assert _constant_loss(parts, targets) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_the_constant_loss_of_a_regression_is_that_of_the_mean(job) -> None:
    parts = assemble(job("data=diabetes", "model=mlp", "precision=float64").config)
    targets = parts.data.splits["valid"].targets
    _, std = parts.data.task.scale
    assert _constant_loss(parts, targets) == pytest.approx(targets.var(correction=0).item() / std**2, rel=1e-9)


# Runs that end inside an epoch


@pytest.mark.slow
def test_a_run_stopped_inside_an_epoch_shows_its_step(train, capfd: pytest.CaptureFixture[str]) -> None:
    done = train("data=iris", "model=mlp", "max_steps=5", "batch_size=12", "validate_every=2st", "plots=true")
    assert "(weights of step 5)" in done.out
    results = done.results
    assert (results["best_epoch"], results["best_step"], results["steps_per_epoch"]) == (0, 5, 8)
    record = read(done.folder)
    assert (record.across, record.best) == ("step", 5)
    page = (done.folder / "report.html").read_text()
    assert "<dt>steps</dt><dd>5, best 5</dd>" in page
    assert "best, step 5" in page
    assert "best, epoch" not in page
    assert exit_code("trainer", "list", "runs") == 0
    assert "step 5" in capfd.readouterr().out
    assert exit_code("trainer", "evaluate", done.folder) == 0
    assert "(weights of step 5)" in capfd.readouterr().out


@pytest.mark.slow
def test_a_best_validation_inside_an_epoch_is_a_step_where_the_run_stops_early(train) -> None:
    done = train(*IRIS, "batch_size=12", "validate_every=3st", "patience=2", STILL)
    assert done.results["reason"].endswith("in step 3")
    assert train(*IRIS, "patience=2", STILL).results["reason"].endswith("in epoch 1")


def test_moments_are_epochs_only_at_their_ends() -> None:
    assert [moment(0, 0, 8), moment(2, 16, 8), moment(2, 17, 8), moment(0, 5, 8)] == [
        "epoch 0",
        "epoch 2",
        "step 17",
        "step 5",
    ]
    assert [moment(2, 17, None), moment(0, 5, None)] == ["epoch 2, step 17", "step 5"]


@pytest.mark.parametrize(
    ("moments", "steps_per_epoch", "across"),
    [
        ([(0, 0), (1, 8), (2, 16)], None, "epoch"),
        ([(2, 16), (4, 32)], 8, "epoch"),
        ([], None, "epoch"),
        ([(0, 5)], None, "step"),
        ([(1, 8), (2, 16), (2, 17)], None, "step"),
        ([(1, 9)], 8, "step"),
        ([(1, 9), (2, 18), (3, 27)], 8, "step"),
        ([(2, 17)], None, "step"),
    ],
)
def test_curves_are_by_epoch_only_if_all_their_points_are(moments, steps_per_epoch: int | None, across: str) -> None:
    assert x_axis(moments, steps_per_epoch) == across
