"""Regression metrics in the target's unit, and losses that fit the task or are refused."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional as F

from helpers.components import assemble
from trainer.components.class_weights import class_weights
from trainer.components.loss import LOSSES, Criterion, fitting
from trainer.data.prepare import Prepare
from trainer.data.regression import Regression
from trainer.data.tables.table import bundled_table
from trainer.data.tasks import Classification
from trainer.errors import UserError
from trainer.records.metrics import read_metrics
from trainer.training import checkpoint

pytestmark = pytest.mark.slow

TWO, TEN, NUMBER = Classification(("no", "yes")), Classification(tuple("0123456789")), Regression(5.0, 2.0)


@pytest.mark.parametrize(
    ("output", "outputs", "sentence"),
    [
        ("log_probabilities", [[0.1, -0.3, 2.0]], "exponentials of the model's outputs are between 0.7408 and 7.389"),
        ("log_probabilities", [[-1.0, -1.0, -2.0]], "exponentials of the model's outputs sum to 0.8711 for a sample"),
        ("probabilities", [[0.5, 0.5, 0.0], [0.9, 0.9, 0.0]], "the model's outputs sum to 1.8 for a sample"),
        ("probabilities", [[1.3]], "the model's outputs are between 1.3 and 1.3; expected 0 to 1"),
        ("probabilities", [[0.7]], None),
        ("probabilities", [[0.5, 0.5, 0.0]], None),
        ("log_probabilities", [[0.0, -math.inf, -math.inf]], None),
        ("log_probabilities", [[math.nan, 0.0, 0.0]], None),
        ("logits", [[30.0, -7.0, 2.0]], None),
    ],
)  # fmt: skip
def test_outputs_that_are_not_what_is_said(output: str, outputs: list[list[float]], sentence: str | None) -> None:
    task = Classification(("a", "b", "c")[: 2 if len(outputs[0]) == 1 else 3], output=output)
    for use in (task.probabilities, lambda out: task.metrics(out, torch.zeros(len(out), dtype=torch.int64))):
        if sentence is None:
            use(torch.tensor(outputs))
        else:
            with pytest.raises(UserError, match=re.escape(sentence)):
                use(torch.tensor(outputs))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("loss=nll", "model.output=log_probabilities"), "model.output=log_probabilities: the exponentials of the mo"),
        (("data=breast_cancer", "loss=bce", "model.output=probabilities"), "loss=bce: the model's outputs are not bet"),
    ],
)
def test_training_ends_where_they_are_first_looked_at(train, words: tuple[str, ...], sentence: str) -> None:
    done = train("model=mlp", "epochs=2", *words)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert sentence in done.err
    assert "Train with model.output=logits" in done.err


def test_regression_figures_are_scikit_learns_in_the_targets_unit() -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(50, 1), torch.randn(50, dtype=torch.float64) * 3 + 4
    predicted = outputs[:, 0].double() * 2.0 + 5.0
    found = NUMBER.metrics(outputs, targets)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(targets, predicted), rel=1e-12)
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(targets, predicted), rel=1e-12)
    assert found["r2"] == pytest.approx(sk.r2_score(targets, predicted), rel=1e-12)


def test_a_regression_run_has_no_accuracy_and_its_test_is_that_of_its_checkpoint(train) -> None:
    done = train("data=diabetes", "model=mlp", "epochs=3", "plots=true")
    assert done.code == 0, done.err
    rows = read_metrics(done.folder / "metrics.csv")
    assert not any("accuracy" in name for name in rows[0].metrics)
    test = done.results["test"]
    assert test.keys() == {"loss", "mae", "rmse", "r2", "samples"}
    assert (done.folder / "predictions.png").exists()
    assert not (done.folder / "confusion_matrix.png").exists()
    best = checkpoint.load(done.folder / "checkpoints" / "best.pt")
    mean, _ = best["target_scale"]
    assert best["task"] == "regression"
    targets = bundled_table("diabetes", "progression").splits["train"].targets
    assert abs(mean - targets.mean()) < 0.2 * targets.std()
    assert test["rmse"] < targets.std()  # better than always saying the mean


@pytest.mark.parametrize("loss", [nn.MSELoss, nn.L1Loss, nn.HuberLoss])
def test_numbers_never_broadcast(loss: type[nn.Module]) -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(8, 1), torch.randn(8, dtype=torch.float64)
    criterion = Criterion(loss(), LOSSES[loss], "logits", (NUMBER.mean, NUMBER.std))
    assert criterion(outputs, targets) == loss()(outputs[:, 0], ((targets - 5) / 2).float())


def test_index_one_hot_and_probability_targets_agree() -> None:
    outputs, classes = torch.tensor([[-0.1211, 0.1059]], dtype=torch.float64), torch.tensor([0])
    criterion = Criterion(nn.CrossEntropyLoss(), LOSSES[nn.CrossEntropyLoss], "logits")
    for targets in (classes, F.one_hot(classes, 2).double()):
        assert criterion(outputs, targets).item() == pytest.approx(0.8131, abs=5e-5)


def test_probabilities_and_logits_of_one_model_give_the_same_loss() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(9, 4, dtype=torch.float64), torch.randint(0, 4, (9,))
    expected = F.cross_entropy(logits, targets)
    fits = LOSSES[nn.NLLLoss]
    for output, outputs in (("probabilities", logits.softmax(1)), ("log_probabilities", logits.log_softmax(1))):
        torch.testing.assert_close(Criterion(nn.NLLLoss(), fits, output)(outputs, targets), expected)


@pytest.mark.parametrize(
    ("loss", "task", "output", "sentence"),
    [
        (nn.BCEWithLogitsLoss, TEN, "logits", "fits two classes, and the data has 10 classes. Use loss=cross_entropy"),
        (nn.CrossEntropyLoss, NUMBER, "logits", "fits classes, and the data has a number as its target. Use loss=mse"),
        (nn.CrossEntropyLoss, TEN, "probabilities", "returns logits, and model.output=probabilities. Use loss=nll"),
        (nn.BCELoss, TWO, "logits", "returns probabilities, and model.output=logits. Use loss=bce_with_logits"),
        (nn.MSELoss, TEN, "logits", "Use loss=cross_entropy"),
    ],
)  # fmt: skip
def test_a_loss_that_does_not_fit_is_refused_with_one_that_does(loss, task, output: str, sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        fitting(loss, task, output)
    assert sentence in str(raised.value)


def test_balanced_weights_are_scikit_learns() -> None:
    targets = torch.tensor([0] * 30 + [1] * 5 + [2] * 15)
    task = Classification(("a", "b", "c"))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=targets.numpy())
    torch.testing.assert_close(class_weights("balanced", task, targets), torch.from_numpy(expected))
    with pytest.raises(UserError, match="3 positive numbers"):
        class_weights([1.0, 2.0], task, targets)


def test_predictions_and_probabilities_follow_what_the_model_returns() -> None:
    logits = torch.randn(20, 1)
    both = Classification(("no", "yes"), output="probabilities")
    assert torch.equal(TWO.predictions(logits), both.predictions(logits.sigmoid()))
    torch.testing.assert_close(TWO.probabilities(logits), both.probabilities(logits.sigmoid()))
    many = torch.randn(20, 10)
    logs = Classification(TEN.classes, output="log_probabilities")
    torch.testing.assert_close(logs.probabilities(many.log_softmax(1)), many.softmax(1))


@pytest.mark.parametrize("figure", ["f1", "auroc", "balanced_accuracy"])
def test_a_costlier_figure_is_a_column_when_it_is_monitored(figure: str, train) -> None:
    done = train("data=wine", "model=mlp", f"monitor=valid_{figure}", "epochs=2")
    assert done.code == 0, done.err
    rows = read_metrics(done.folder / "metrics.csv")
    assert done.results["valid"][figure] == max(row[f"valid_{figure}"] for row in rows)


def test_a_monitor_of_another_task_is_refused(train) -> None:
    done = train("data=diabetes", "model=mlp", "monitor=valid_accuracy")
    assert done.code == 2
    assert "the task is regression; expected one of train_loss, valid_loss, valid_mae" in done.err


@pytest.mark.parametrize(
    ("final", "output"),
    [("softmax", "probabilities"), ("log_softmax", "log_probabilities"), ("sigmoid", "probabilities")],
)
def test_what_a_model_ends_in_must_be_said(final: str, output: str, train) -> None:
    data = "breast_cancer" if final == "sigmoid" else "iris"
    done = train(f"data={data}", "model=mlp", f"model.final={final}")
    assert done.code == 2
    assert f"Set model.output={output}" in done.err
    assert train(f"data={data}", "model=mlp", f"model.final={final}", f"model.output={output}", "epochs=1").code == 0


def test_preparations_are_kept_apart() -> None:
    # The cache of per-channel tensors is keyed by value: two preparations must not share one entry.
    raw = torch.full((1, 1, 2, 2), 10, dtype=torch.uint8)
    assert Prepare((1, 2, 2), (10.0,), (1.0,))(raw).sum() == 0
    assert Prepare((1, 2, 2), (9.0,), (1.0,))(raw).sum() == 4


SOFT = """
import torch

class Soft(torch.utils.data.Dataset):
    def __init__(self, kind="soft", bad=0.0):
        self.kind, self.bad = kind, bad
    def __len__(self):
        return 60
    def __getitem__(self, i):
        inputs = torch.full((4,), float(i % 3))
        row = [0.0, 0.0, 0.0, 0.0]
        row[i % 3] = 1.0
        if self.kind == "soft":
            row[i % 3], row[3] = 0.7, 0.3 + self.bad
        return inputs, torch.tensor(row if self.kind != "whole" else [int(x) for x in row])
"""


@pytest.mark.parametrize("kind", ["soft", "hot", "whole"])
def test_targets_may_be_one_hot_or_probabilities(kind: str, train) -> None:
    Path("soft_data.py").write_text(SOFT)
    words = ["data=custom", "data._target_=soft_data.Soft", f"data.kind={kind}", "model=mlp", "model.hidden=[8]"]
    done = train(*words, "loss=cross_entropy", "epochs=150", "patience=null", "optim.lr=0.03", "batch_size=16")
    assert done.code == 0, done.err
    assert len(done.results["test"]["per_class"]) == 4  # also the class that is nobody's likeliest
    assert done.results["test"]["accuracy"] == 1.0
    # The least loss there can be is the entropy of the targets.
    entropy = -(0.7 * math.log(0.7) + 0.3 * math.log(0.3)) if kind == "soft" else 0.0
    assert done.results["test"]["loss"] == pytest.approx(entropy, abs=0.02)


def test_soft_targets_meet_the_loss_as_torch_has_it(job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path.cwd())
    Path("soft_data.py").write_text(SOFT)
    words = ["data=custom", "data._target_=soft_data.Soft", "model=mlp", "batch_size=60", "loss=cross_entropy"]
    for precision, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        parts = assemble(job(*words, f"precision={precision}").config)
        _, targets = next(iter(parts.valid.epoch(0)))
        outputs = torch.randn(len(targets), 4, dtype=dtype)
        by_hand = -(targets.double() * outputs.double().log_softmax(1)).sum(1).mean()
        assert parts.population.criterion(outputs, targets).item() == pytest.approx(by_hand.item(), rel=1e-6)


def test_a_target_that_is_no_distribution_is_named(train) -> None:
    Path("soft_data.py").write_text(SOFT)
    done = train("data=custom", "data._target_=soft_data.Soft", "data.bad=0.5", "model=mlp")
    assert done.code == 2
    assert "the target of item 0 is" in done.err
    assert "sum to 1" in done.err
