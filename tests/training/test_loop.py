"""The loop stops, validates, saves and reports at the right steps; recomputed from metrics.csv and best.pt."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers.runs import CompletedCommand
from trainer.data.dataset import load
from trainer.data.sources import digits
from trainer.models.lenet import LeNet5
from trainer.records.metrics import read_metrics
from trainer.training import checkpoint

SMALL = ["model=ann", "optim=sgd", "batch_size=32", "debug.batches=5", "test=false"]  # 5 steps an epoch


def rows_of(done: CompletedCommand) -> list[dict[str, Any]]:
    assert done.folder is not None
    return read_metrics(done.folder / "metrics.csv")


def stopped_at(values: list[float], patience: int, min_delta: float, sign: int) -> tuple[int, int]:
    """(index of the best, index of the row after which a run stops), counted by hand."""
    best, best_index, num_bad_validations = None, -1, 0
    for i, value in enumerate(values):
        if best is None or sign * (value - best) > min_delta:
            best, best_index, num_bad_validations = value, i, 0
        else:
            num_bad_validations += 1
        if num_bad_validations == patience:
            return best_index, i
    return best_index, len(values)


@pytest.mark.parametrize(
    ("words", "patience", "min_delta", "sign"),
    [
        (["monitor=valid_loss", "optim.lr=0.5"], 3, 0.0, -1),
        (["monitor=valid_accuracy", "optim.lr=0.05"], 2, 0.0, 1),
        (["monitor=valid_loss", "optim.lr=0.03"], 1, 0.05, -1),
        (["monitor=valid_accuracy", "optim.lr=0.03"], 2, 0.02, 1),
    ],
)
def test_early_stopping_is_exact(words: list[str], patience: int, min_delta: float, sign: int, train) -> None:
    done = train(*SMALL, *words, "epochs=60", f"patience={patience}", f"min_delta={min_delta}")
    assert done.code == 0
    rows = rows_of(done)
    assert done.results["status"] == "early_stopped"
    best, last = stopped_at([row[done.results["monitor"]] for row in rows], patience, min_delta, sign)
    assert last == len(rows) - 1  # neither earlier nor later
    assert done.results["best_epoch"] == rows[best]["epoch"]
    assert done.results["valid"] == {"loss": rows[best]["valid_loss"], "accuracy": rows[best]["valid_accuracy"]}
    assert torch.load(done.folder / "checkpoints" / "best.pt", weights_only=True)["step"] == rows[best]["step"]


def test_without_patience_all_epochs_are_done(train) -> None:
    done = train(*SMALL, "optim.lr=1e-9", "min_delta=1", "epochs=14", "patience=null")
    assert done.results["status"] == "completed"
    assert done.results["best_epoch"] == 1
    assert len(rows_of(done)) == 14


@pytest.mark.parametrize(
    ("words", "steps", "epochs"),
    [
        (["validate_every=2ep", "epochs=5"], [10, 20, 25], [2, 4, 5]),
        (["validate_every=7st", "epochs=4"], [7, 14, 20], [1, 2, 4]),
        (["validate_every=100st", "epochs=2"], [10], [2]),
        (["baseline=true", "epochs=2"], [0, 5, 10], [0, 1, 2]),
        (["max_steps=8", "epochs=9"], [5, 8], [1, 1]),
        (["accumulate=2", "epochs=2"], [3, 6], [1, 2]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and isinstance(value[0], str) else "",
)
def test_rows_stand_where_they_should(words: list[str], steps: list[int], epochs: list[int], train) -> None:
    done = train(*SMALL, *words)
    assert done.code == 0, done.err
    assert [row["step"] for row in rows_of(done)] == steps
    assert [row["epoch"] for row in rows_of(done)] == epochs
    assert done.results["steps"] == steps[-1]
    assert done.results["epochs"] == epochs[-1]
    assert done.results["status"] == "completed"


def test_the_baseline_is_the_untrained_model(train) -> None:
    done = train("model=lenet5", "baseline=true", "epochs=1", "debug.batches=1", "optim.lr=1e-30", "test=false")
    before, after = rows_of(done)
    assert before["train_loss"] is None
    assert before["train_accuracy"] is None
    assert before["valid_loss"] == after["valid_loss"]  # a rate of nearly nothing changes nothing


def test_training_figures_are_of_the_epoch_alone(train) -> None:
    """At a rate of nearly nothing every epoch sees the same model, so every epoch has the same mean."""
    done = train(*SMALL, "model.dropout=0", "optim.lr=1e-30", "epochs=3")
    losses = [row["train_loss"] for row in rows_of(done)]
    assert losses[1:] == pytest.approx(losses[:1] * 2, rel=1e-6)


def test_debug_fast_touches_everything(train) -> None:
    done = train("debug=fast", "batch_size=16")
    assert done.code == 0
    assert (done.results["epochs"], done.results["steps"]) == (2, 6)
    assert sum(entry["total"] for entry in done.results["test"]["per_class"]) == 48


def test_debug_overfit_tells_a_batch_that_is_learned(train) -> None:
    done = train("debug=overfit", "model=mnist_classifier", "batch_size=16", "optim.lr=0.02")
    assert done.code == 0, done.err
    last = rows_of(done)[-1]
    assert last["valid_accuracy"] == 1.0
    assert last["valid_loss"] < 0.01
    assert len(rows_of(done)) < 1000
    assert done.results["test"] is None


def test_debug_overfit_tells_a_batch_that_is_not(train) -> None:
    done = train("debug=overfit", "model=ann", "optim.lr=1e-9", "epochs=3")
    assert done.code == 1
    assert done.results["status"] == "failed"
    assert "was not learned in 3 epochs" in done.results["error"]


def finite(value: Any) -> bool:
    """Return whether all numbers in a nested structure are finite."""
    if isinstance(value, torch.Tensor):
        return bool(value.isfinite().all())
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)


@pytest.mark.parametrize(
    "words",
    [
        ["optim=sgd", "optim.lr=1e30"],
        ["optim=sgd", "optim.lr=1e30", "max_steps=1"],  # only the validation can tell
        ["optim=sgd", "optim.lr=1e6", "model=ann", "data.relabel={low: [0, 1, 2], high: rest}"],
        ["optim=adamw", "optim.lr=1e20", "validate_every=1st"],
    ],
    ids=lambda words: " ".join(words),
)
def test_a_run_that_diverges_leaves_nothing_that_is_not_finite(words: list[str], train) -> None:
    done = train("checkpoint.every=1st", "epochs=30", *words)
    assert done.code == 1, done.err
    results = done.results
    assert results["status"] == "diverged"
    assert "not finite" in results["error"]
    assert "Try a lower optim.lr" in done.out + done.err
    assert finite(results)
    assert all(finite(list(row.values())) for row in rows_of(done))
    for path in (done.folder / "checkpoints").glob("*.pt"):
        assert finite(torch.load(path, weights_only=True)), path.name


BOMB = """
import torch
from torch import nn


class Bomb(nn.Module):
    def __init__(self, in_features, num_outputs):
        super().__init__()
        self.net = nn.Linear(in_features, num_outputs)
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, x):
        self.steps += self.training
        return self.net(x.flatten(1)) * torch.where(self.steps > 30, torch.nan, 1.0)
"""


def test_of_a_run_that_diverges_the_best_weights_are_kept(train) -> None:
    Path("bomb.py").write_text(BOMB)
    done = train("data=iris", "model._target_=bomb.Bomb", "batch_size=16", "epochs=20")
    assert (done.code, done.results["status"]) == (1, "diverged"), done.err
    best = checkpoint.load(done.folder / "checkpoints" / "best.pt")
    least = min(rows_of(done), key=lambda row: row["valid_loss"])
    assert best["epoch"] == done.results["best_epoch"] == least["epoch"] > 1
    assert finite(best["model"])


def test_the_test_is_that_of_the_best_weights(train) -> None:
    """best.pt evaluated in plain torch: no batches, no program around it."""
    done = train("epochs=4", "optim.lr=0.01", "patience=null", "seed=3")
    best = torch.load(done.folder / "checkpoints" / "best.pt", weights_only=True)
    model = LeNet5().eval()
    model.load_state_dict(best["model"])
    source = digits()
    data = load(source, valid_fraction=0.2, test_fraction=0.2, seed=3)
    prepare = best["prepare"]

    def evaluate(part: str) -> tuple[float, float]:
        split = data.splits[part]
        images = F.interpolate(
            source.splits["train"].inputs[split.indices].float(), (32, 32), mode="bilinear", antialias=True
        )
        with torch.no_grad():
            outputs = model((images - prepare["mean"][0]) / prepare["std"][0])
        loss = nn.functional.cross_entropy(outputs.double(), split.targets).item()
        return loss, (outputs.argmax(1) == split.targets).double().mean().item()

    for part in ("valid", "test"):
        loss, accuracy = evaluate(part)
        assert done.results[part]["loss"] == pytest.approx(loss, rel=1e-4)
        assert done.results[part]["accuracy"] == pytest.approx(accuracy, abs=1e-12)
    assert best["epoch"] == done.results["best_epoch"]
    assert done.results["valid"]["loss"] == min(row["valid_loss"] for row in rows_of(done))


KEYS = [
    "status",
    "task",
    "epochs",
    "best_epoch",
    "monitor",
    "train",
    "valid",
    "test",
    "parameters",
    "seconds",
    "samples_per_second",
    "device",
    "threads",
    "versions",
    "seed",
    "command",
    "overrides",
    "git_commit",
    "data_fingerprint",
    "error",
]


def test_results_have_all_that_is_promised(train) -> None:
    done = train("model=ann", "epochs=1", "seed=5")
    results = done.results
    assert not set(KEYS) - set(results)
    assert results["task"] == "multiclass"
    assert results["seed"] == 5
    assert results["error"] is None
    assert results["command"][:2] == ["train", "model=ann"]
    assert set(results["seconds"]) == {"total", "setup", "training", "testing"}
    assert results["parameters"] == {"total": 64 * 30 + 30 + 30 * 10 + 10, "trainable": 64 * 30 + 30 + 30 * 10 + 10}
    for part in ("train", "valid", "test"):
        assert 0 <= results[part]["accuracy"] <= 1
    (row,) = rows_of(done)
    promised = "epoch step lr train_loss train_accuracy valid_loss valid_accuracy seconds samples_per_second"
    assert list(row.to_dict()) == promised.split()
    confusion = torch.tensor(results["test"]["confusion_matrix"])
    assert confusion.sum(1).tolist() == [entry["total"] for entry in results["test"]["per_class"]]
    assert confusion.diag().tolist() == [entry["correct"] for entry in results["test"]["per_class"]]


def test_the_same_seed_gives_the_same_run_and_another_one_does_not(train) -> None:
    def weights(done: CompletedCommand) -> dict[str, torch.Tensor]:
        return torch.load(Path(done.folder) / "checkpoints" / "last.pt", weights_only=True)["run"]["model"]

    words = [*SMALL, "epochs=2"]
    first, again, other = (weights(train(*words, f"seed={seed}")) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["output.weight"], other["output.weight"])
