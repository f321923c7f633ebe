"""`metric=[...]`: each shipped metric against scikit-learn, SciPy or a hand calculation, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk
from torch import Tensor

from helpers.runs import REPOSITORY
from trainer.components.metrics import with_metrics
from trainer.components.targets import resolve_targets
from trainer.data.multilabel import MultiLabel
from trainer.data.regression import Regression
from trainer.data.tasks import Classification, Task
from trainer.errors import UserError

SHIPPED = {path.stem for path in (REPOSITORY / "conf" / "metric").glob("*.yaml")}


def specificities(true: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """Mean over the classes of the share of other samples that are not taken for the class."""
    return float(np.mean([(predicted[true != c] != c).mean() for c in range(classes)]))


def calibration_error(sure: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Mean distance of confidence and accuracy in bins of equal width, weighted by their samples."""
    place = np.clip(np.ceil(sure * bins) - 1, 0, bins - 1)
    parts = [place == b for b in range(bins)]
    return float(sum(part.mean() * abs(sure[part].mean() - right[part].mean()) for part in parts if part.any()))


def of_classes(p: np.ndarray, y: np.ndarray) -> dict[str, float]:
    top, each = p.argmax(1), range(p.shape[1])
    return {
        "cohen_kappa": sk.cohen_kappa_score(y, top),
        "mcc": sk.matthews_corrcoef(y, top),
        "jaccard": sk.jaccard_score(y, top, average="macro"),
        "specificity": specificities(y, top, p.shape[1]),
        "average_precision": np.mean([sk.average_precision_score(y == c, p[:, c]) for c in each]),
        "calibration_error": calibration_error(p.max(1), top == y),
        "f1_macro": sk.f1_score(y, top, average="macro"),
        "f1_weighted": sk.f1_score(y, top, average="weighted"),
        "precision_macro": sk.precision_score(y, top, average="macro"),
        "recall_macro": sk.recall_score(y, top, average="macro"),
        "top3_accuracy": sk.top_k_accuracy_score(y, p, k=3),
        "hamming_distance": sk.hamming_loss(y, top),
    }


def of_two_classes(p: np.ndarray, y: np.ndarray) -> dict[str, float]:
    positive = p[:, 1]
    top = positive > 0.5
    return {
        "cohen_kappa": sk.cohen_kappa_score(y, top),
        "mcc": sk.matthews_corrcoef(y, top),
        "jaccard": sk.jaccard_score(y, top),
        "specificity": sk.recall_score(y, top, pos_label=0),
        "average_precision": sk.average_precision_score(y, positive),
        "calibration_error": calibration_error(positive, y),
        "f1_macro": sk.f1_score(y, top, average="macro"),
        "f1_weighted": sk.f1_score(y, top, average="weighted"),
        "f1_binary": sk.f1_score(y, top),
        "precision_binary": sk.precision_score(y, top),
        "recall_binary": sk.recall_score(y, top),
        "hamming_distance": sk.hamming_loss(y, top),
    }


def of_labels(p: np.ndarray, y: np.ndarray) -> dict[str, float]:
    yes = p > 0.5
    return {
        "mcc": sk.matthews_corrcoef(y.ravel(), yes.ravel()),
        "jaccard": sk.jaccard_score(y, yes, average="macro"),
        "specificity": np.mean([sk.recall_score(a, b, pos_label=0) for a, b in zip(y.T, yes.T, strict=True)]),
        "average_precision": sk.average_precision_score(y, p, average="macro"),
        "hamming_distance": sk.hamming_loss(y, yes),
        "ranking_loss": sk.label_ranking_loss(y, p),
        "ranking_average_precision": sk.label_ranking_average_precision_score(y, p),
    }


def of_numbers(v: np.ndarray, t: np.ndarray) -> dict[str, float]:
    error = np.abs(v - t)
    distance = v.var(ddof=1) + t.var(ddof=1) + (v.mean() - t.mean()) ** 2
    return {
        "mape": sk.mean_absolute_percentage_error(t, v),
        "smape": np.mean(2 * error / (np.abs(v) + np.abs(t))),
        "wmape": error.sum() / np.abs(t).sum(),
        "msle": sk.mean_squared_log_error(t, v),
        "explained_variance": sk.explained_variance_score(t, v),
        "pearson": stats.pearsonr(v, t).statistic,
        "spearman": stats.spearmanr(v, t).statistic,
        "kendall": stats.kendalltau(v, t).statistic,
        "concordance": 2 * np.cov(v, t)[0, 1] / distance,
    }


@pytest.fixture
def extended(job: Callable) -> Callable[..., Task]:
    """Return a task with metrics, which a stored configuration may name, too."""

    def extend(task: Task, *words: str) -> Task:
        config = job(*words).config
        return with_metrics(task, config.metric, resolve_targets(config, ["metric"], trusted=False))

    return extend


def drawn(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def scores(count: int, width: int, targets: Tensor) -> Tensor:
    """Logits that are better than chance."""
    return (4 * drawn(count, width) + 1.5 * torch.nn.functional.one_hot(targets, width) - 2).float()


CASES = ("classes", "two_classes", "labels", "numbers", "several_numbers")


@pytest.mark.parametrize("case", CASES)
def test_shipped_metrics_are_those_of_scikit_learn(case: str, extended) -> None:
    classes_N = torch.arange(60) * 7 % 5 % 4
    if case == "classes":
        task: Task = Classification(tuple("abcd"))
        outputs, targets = scores(60, 4, classes_N), classes_N
        expected = of_classes(outputs.softmax(1).numpy(), targets.numpy())
    elif case == "two_classes":
        task, targets = Classification(("no", "yes")), (classes_N > 1).long()
        outputs = scores(60, 2, targets)[:, 1:]
        positive = outputs.sigmoid().numpy()
        expected = of_two_classes(np.hstack([1 - positive, positive]), targets.numpy())
    elif case == "labels":
        task, targets = MultiLabel(tuple("abc")), (drawn(60, 3) > 0.4).float()
        outputs = (3 * drawn(120, 3)[60:] + targets - 2).float()
        expected = of_labels(outputs.sigmoid().numpy(), targets.int().numpy())
    else:
        targets = 1000 + 5 * drawn(60, 2)
        outputs = (targets - 1000) / 5 + 0.3 * drawn(120, 2)[60:]
        values = 1000 + 5 * outputs
        each = [of_numbers(values[:, k].numpy(), targets[:, k].numpy()) for k in (0, 1)]
        if case == "numbers":
            task, outputs, targets, expected = Regression(1000.0, 5.0), outputs[:, :1], targets[:, 0], each[0]
        else:
            task = Regression((1000.0, 1000.0), (5.0, 5.0), ("height", "weight"))
            expected = {name: (each[0][name] + each[1][name]) / 2 for name in each[0]}
    task = extended(task, f"metric=[{','.join(expected)}]")
    for measured in (task.metrics(outputs, targets), task.report(outputs, targets, None).metrics):
        assert {name: measured[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert set(task.columns) >= {f"valid_{name}" for name in expected}


def test_every_shipped_metric_is_compared() -> None:
    source = Path(__file__).read_text()
    assert [name for name in sorted(SHIPPED) if f'        "{name}": ' not in source] == []


def test_a_split_that_defines_no_value_has_none(extended) -> None:
    task = extended(Regression(0.0, 1.0), "metric=[pearson,mape]")
    measured = task.metrics(torch.zeros(5, 1), torch.arange(1, 6))
    assert measured["pearson"] is None
    assert measured["mape"] == pytest.approx(1.0)


REFUSED = [
    ("binary", "metric=[mape]", "metric.mape: torchmetrics.regression.MeanAbsolutePercentageError fits numbers, and "),
    ("regression", "metric=[mcc]", "fits classes, and the targets are numbers"),
    ("multiclass", "metric=[f1_binary]", "fits two classes, and the targets are 3 classes"),
    ("multiclass", "metric=[ranking_loss]", "fits several labels, and the targets are 3 classes"),
    ("multilabel", "metric=[f1_macro]", "fits classes, and the targets are several labels"),
    ("multiclass", "metric=[mcc] metric.mcc.better=min", "metric.mcc.better=min: the largest value of it is the best"),
    (
        "multiclass",
        "metric=[jaccard] metric.jaccard.average=none",
        "a tensor of shape [3]; expected one number",
    ),
    ("multiclass", "metric=[f1_macro] metric.f1_macro.average=best", "refuses metric.f1_macro.average=best"),
    ("multiclass", "metric=[mcc] metric.mcc.num_classes=7", "metric.mcc.num_classes=7: it follows from the data"),
    (
        "multiclass",
        "metric=[cohen_kappa] metric.cohen_kappa.weigths=linear",
        "Did you mean metric.cohen_kappa.wei",
    ),
    ("multiclass", "metric.mcc.average=x", "metric.mcc._target_: a value is needed"),
    ("multiclass", "metric.own._target_=torch.nn.ReLU", "names code outside this program"),
    ("multiclass", "metric.own._target_=os.system", "names code outside this program"),
    ("multiclass", "metric.own._target_=torchmetrics.Metric", "names code outside this program"),
    ("multiclass", "metric=[calibration_error] metric.calibration_error.n_bins=1000000", "numbers up to 1000"),
]
TASKS: dict[str, Task] = {
    "binary": Classification(("no", "yes")),
    "multiclass": Classification(tuple("abc")),
    "multilabel": MultiLabel(tuple("abc")),
    "regression": Regression(0.0, 1.0),
}


@pytest.mark.parametrize(("kind", "words", "sentence"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_does_not_fit_is_refused_before_training(kind: str, words: str, sentence: str, extended) -> None:
    with pytest.raises(UserError) as error:
        extended(TASKS[kind], *words.split())
    assert sentence in str(error.value)
