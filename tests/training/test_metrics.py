"""Metrics are exact: they equal scikit-learn's and do not depend on the batch size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor
from torch.nn import functional as F

from helpers.components import assemble
from trainer.data.loader import make_batches
from trainer.data.metrics import ClassReport
from trainer.data.tasks import Classification
from trainer.signals import Signals
from trainer.training.evaluate import evaluate
from trainer.training.sums import RunningSums

N = 203
TASK = Classification(("no", "yes"))


def outputs_and_targets(outputs: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(N, outputs, dtype=torch.float64, generator=generator) * 2
    return logits, torch.randint(0, classes, (N,), generator=generator)


@pytest.mark.parametrize("sizes", [1, 7, 64, N, [100, 3, 1, 99]], ids=str)
@pytest.mark.parametrize("outputs", [1, 5])
def test_sums_are_scikit_learns_however_the_batches_are_cut(sizes, outputs: int) -> None:
    logits, targets = outputs_and_targets(outputs, max(outputs, 2))
    sums = RunningSums(1, torch.device("cpu"), TASK)
    for x, y in zip(logits.split(sizes), targets.split(sizes), strict=True):
        loss = F.binary_cross_entropy_with_logits(x[:, 0], y.double()) if outputs == 1 else F.cross_entropy(x, y)
        sums.add(loss, x, y, len(y))
    likely = logits[:, 0].sigmoid() if outputs == 1 else logits.softmax(1)
    predicted = likely > 0.5 if outputs == 1 else likely.argmax(1)
    found = sums.result()
    assert found["train_loss"] == pytest.approx(sk.log_loss(targets, likely), rel=1e-12)
    assert found["train_accuracy"] == pytest.approx(sk.accuracy_score(targets, predicted), rel=1e-12)


def test_sums_without_samples_and_after_a_reset_are_empty() -> None:
    sums = RunningSums(1, torch.device("cpu"), TASK)
    sums.add(torch.tensor(1.0), torch.randn(3, 2), torch.zeros(3).long(), 3)
    sums.reset()
    assert sums.result() == {"train_loss": None, "train_accuracy": None}


def test_one_loss_that_is_not_finite_is_never_forgotten() -> None:
    sums = RunningSums(1, torch.device("cpu"), TASK)
    for loss in (1.0, float("inf"), 1.0):
        sums.add(torch.tensor(loss), torch.randn(3, 2), torch.zeros(3).long(), 3)
    assert sums.nonfinite_runs() == [0]


def test_the_report_is_scikit_learns() -> None:
    logits, targets = outputs_and_targets(12, 12)
    targets[targets == 4] = 5  # a class without samples
    names = tuple("abcdefghijkl")
    report = Classification(names).report(logits, targets, 0.5)
    predicted = logits.argmax(1)
    labels = [label for label in range(12) if label != 4]
    each = sk.precision_recall_fscore_support(targets, predicted, labels=labels, zero_division=0)
    mean = sk.precision_recall_fscore_support(targets, predicted, labels=labels, average="macro", zero_division=0)
    for i, metric in enumerate(("precision", "recall", "f1")):
        np.testing.assert_allclose([getattr(report.per_class[label], metric) for label in labels], each[i], atol=1e-6)
        assert report.metrics[metric] == pytest.approx(mean[i], abs=1e-6)
    assert [report.per_class[label].total for label in labels] == each[3].tolist()
    assert report.metrics["accuracy"] == sk.accuracy_score(targets, predicted)
    assert report.confusion_matrix == sk.confusion_matrix(targets, predicted, labels=range(12)).tolist()
    assert report.metrics["top5_accuracy"] == pytest.approx(
        sk.top_k_accuracy_score(targets, logits.numpy(), k=5, labels=range(12))
    )
    assert [entry.name for entry in report.per_class] == list(names)


def test_a_class_without_samples_has_no_figures() -> None:
    logits, targets = outputs_and_targets(3, 2)
    absent = Classification(("a", "b", "c")).report(logits, targets, 0.5).per_class[2]
    assert absent == ClassReport("c", correct=0, total=0, accuracy=None, precision=None, recall=None, f1=None)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("spread", [1, 30], ids=["unsure", "confident"])
def test_auroc_is_scikit_learns(outputs: int, spread: int) -> None:
    logits, targets = outputs_and_targets(outputs, 2)
    logits[:, -1] += targets
    logits *= spread  # changes no order, so it must not change the figure; a sigmoid in float32 ends at 17
    report = Classification(("no", "yes")).report(logits, targets, 0.5)
    score = logits[:, 0] if outputs == 1 else logits[:, 1] - logits[:, 0]
    assert report.metrics["auroc"] == pytest.approx(sk.roc_auc_score(targets, score), abs=1e-6)
    assert report.metrics["accuracy"] == sk.accuracy_score(targets, score > 0)


def test_auroc_of_one_class_is_null() -> None:
    logits, _ = outputs_and_targets(1, 2)
    assert Classification(("no", "yes")).report(logits, torch.ones(N, dtype=torch.int64), 0.5).metrics["auroc"] is None


def test_evaluation_does_not_depend_on_the_batch_size(job) -> None:
    parts = assemble(job("model=mnist_classifier", "precision=float64").config)
    parts.population.eval()
    found = []
    for size in (1, 7, 64, 10_000):
        split_batches = make_batches(parts.data, "test", size, parts.loading)
        outputs, targets = evaluate(parts.population.outputs, split_batches, Signals())
        found.append((parts.population.criterion(outputs, targets).item(), outputs.argmax(1), targets))
    for loss, predicted, targets in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-12)
        assert torch.equal(predicted, found[0][1])
        assert torch.equal(targets, found[0][2])
    split = parts.data.splits["test"]
    assert torch.equal(found[0][2], split.targets)
