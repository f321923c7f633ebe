"""Several labels, or several numbers, for each sample: metrics by scikit-learn, and runs done another way."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor, nn
from torch.nn import functional as F

import trainer
from helpers.datasets import LABELS, write_pets
from helpers.runs import REPOSITORY, exit_code, own_test, train_in
from trainer.components.class_weights import class_weights
from trainer.components.loss import build_criterion, fitting, num_outputs
from trainer.components.stored_task import stored_task
from trainer.data.arrays.source import array_file
from trainer.data.multilabel import MultiLabel
from trainer.data.regression import Regression
from trainer.data.tasks import Task
from trainer.errors import UserError
from trainer.records.metrics import read_metrics
from trainer.records.record import read
from trainer.report import run_page
from trainer.training import checkpoint

WORDS = (
    "data=csv",
    "data.path=pets.csv",
    "data.features=[a,b,c,d]",
    "model=mlp",
    "model.hidden=[8]",
    "optim.lr=0.02",
    "epochs=3",
    "plots=false",
)
SEPARATED = ("data.target=labels", "data.label_separator=|")


@pytest.fixture
def pets() -> Path:
    return write_pets(Path("pets.csv"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that predicts labels."""
    folder = tmp_path_factory.mktemp("labelled")
    write_pets(folder / "pets.csv")
    return train_in(folder, *WORDS, "data.target=[bird,cat,dog]", "monitor=valid_mean_average_precision")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that predicts two numbers."""
    folder = tmp_path_factory.mktemp("measured")
    write_pets(folder / "pets.csv")
    return train_in(folder, *WORDS, "data.target=[height,weight]", "epochs=8")


def random_labels(samples: int = 60, labels: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    outputs = (torch.randn(samples, labels, generator=generator) * 2).round(decimals=1)  # with ties
    return outputs, (torch.rand(samples, labels, generator=generator) < outputs.sigmoid()).long()


def test_metrics_of_labels_are_scikit_learns() -> None:
    outputs, targets = random_labels()
    report = MultiLabel(LABELS).report(outputs, targets, 0.5)
    scores, predicted = outputs.sigmoid().double(), (outputs > 0).long()
    expected = {
        "loss": 0.5,
        "label_accuracy": 1 - sk.hamming_loss(targets, predicted),
        "exact_match": sk.accuracy_score(targets, predicted),
        "micro_f1": sk.f1_score(targets, predicted, average="micro"),
        **{
            name: getattr(sk, f"{name}_score")(targets, predicted, average="macro")
            for name in ("precision", "recall", "f1")
        },
        "auroc": sk.roc_auc_score(targets, scores, average="macro"),
        "mean_average_precision": sk.average_precision_score(targets, scores, average="macro"),
    }
    assert report.metrics == pytest.approx(expected, rel=1e-6)
    for place, label in enumerate(report.per_label):
        truth, claims, score = targets[:, place], predicted[:, place], scores[:, place]
        assert (label.name, label.positives, label.total) == (LABELS[place], int(truth.sum()), 60)
        assert label.accuracy == pytest.approx(sk.accuracy_score(truth, claims))
        assert label.f1 == pytest.approx(sk.f1_score(truth, claims), rel=1e-6)
        assert label.auroc == pytest.approx(sk.roc_auc_score(truth, score), rel=1e-6)
        assert label.average_precision == pytest.approx(sk.average_precision_score(truth, score), rel=1e-6)
    probabilities = MultiLabel(LABELS, output="probabilities").report(outputs.sigmoid(), targets, 0.5)
    assert probabilities.metrics == pytest.approx(report.metrics, rel=1e-6)


def test_a_label_that_no_sample_has_is_left_out_of_the_means() -> None:
    outputs, targets = random_labels()
    targets[:, 1] = 0
    report = MultiLabel(LABELS).report(outputs, targets, None)
    absent = report.per_label[1]
    assert (absent.positives, absent.f1, absent.auroc, absent.average_precision) == (0, None, None, None)
    kept = [0, 2]
    scores = sk.average_precision_score(targets[:, kept], outputs[:, kept], average="macro")
    assert report.metrics["mean_average_precision"] == pytest.approx(scores, rel=1e-6)
    nothing = MultiLabel(LABELS).report(-outputs.abs() - 1, torch.zeros_like(targets), None)
    assert (nothing.metrics["micro_f1"], nothing.metrics["f1"], nothing.metrics["exact_match"]) == (None, None, 1.0)


def test_means_of_several_numbers_are_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(50, 2, generator=generator)
    stds = torch.tensor([2.0, 0.1], dtype=torch.float64)
    targets = torch.randn(50, 2, dtype=torch.float64, generator=generator) * stds + 4
    task = Regression((5.0, 4.0), (2.0, 0.1), ("height", "weight"))
    predicted = outputs.double() * stds + torch.tensor([5.0, 4.0])
    report = task.report(outputs, targets, 1.0)
    scores = {
        "mae": sk.mean_absolute_error,
        "rmse": sk.root_mean_squared_error,
        "r2": sk.r2_score,
    }
    for name, score in scores.items():
        assert report.metrics[name] == pytest.approx(score(targets, predicted), rel=1e-9)
        each = score(targets, predicted, multioutput="raw_values")
        assert [getattr(target, name) for target in report.per_target] == pytest.approx(each.tolist(), rel=1e-9)
    targets[:, 0] = 1.0  # it does not vary, so that its R2 is not defined
    assert task.metrics(outputs, targets)["r2"] == pytest.approx(sk.r2_score(targets[:, 1], predicted[:, 1]), rel=1e-9)


@pytest.mark.parametrize("weight", [None, "balanced", [1.0, 2.0, 0.5]])
def test_the_loss_of_labels_is_torchs(weight: Any) -> None:
    outputs, targets = random_labels()
    task = MultiLabel(LABELS)
    weights = class_weights(weight, task, targets)
    criterion = build_criterion(None, task, "logits", weights, targets[:2], torch.float32)
    if weight == "balanced":  # the samples that have a label weigh as much as those that do not
        present = targets.double().sum(0)
        torch.testing.assert_close(weights * present, len(targets) - present)
    pos_weight = None if weights is None else weights.float()
    expected = F.binary_cross_entropy_with_logits(outputs, targets.float(), pos_weight=pos_weight)
    torch.testing.assert_close(criterion(outputs, targets), expected)
    assert criterion.denominator(targets) == len(targets)
    if weight is None:
        task = MultiLabel(LABELS, output="probabilities")
        plain = build_criterion(None, task, "probabilities", None, targets[:2], torch.float32)
        torch.testing.assert_close(plain(outputs.sigmoid(), targets), expected)


@pytest.mark.parametrize(
    ("loss", "task", "output", "sentence"),
    [
        (nn.CrossEntropyLoss, MultiLabel(LABELS), "logits", "fits classes, and the data has 3 labels. Use loss=bce"),
        (nn.MSELoss, MultiLabel(LABELS), "logits", "fits a number, and the data has 3 labels. Use loss=bce"),
        (nn.BCELoss, MultiLabel(LABELS), "logits", "returns probabilities, and model.output=logits. Use loss="),
        (nn.BCELoss, MultiLabel(LABELS), "log_probabilities", "which needs model.output=logits or probabilities"),
        (nn.BCELoss, Regression((0.0, 0.0), (1.0, 1.0), ("a", "b")), "logits", "the data has 2 numbers"),
    ],
)  # fmt: skip
def test_a_loss_that_does_not_fit_is_refused(loss: Any, task: Task, output: str, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        fitting(loss, task, output)


def test_labels_and_numbers_have_an_output_each() -> None:
    two = Regression((0.0, 0.0), (1.0, 2.0), ("a", "b"))
    assert [num_outputs(None, task, "logits") for task in (MultiLabel(LABELS), two, Regression(0.0, 1.0))] == [3, 2, 1]
    outputs, targets = torch.randn(5, 2), torch.randn(5, 2, dtype=torch.float64)
    criterion = build_criterion(None, two, "logits", None, targets[:2], torch.float32)
    expected = F.mse_loss(outputs, (targets / torch.tensor([1.0, 2.0])).float())
    torch.testing.assert_close(criterion(outputs, targets), expected)


def weights_of(run: Path) -> dict[str, Tensor]:
    return checkpoint.load(run / "checkpoints" / "best.pt")["model"]


def same_run(one: Path, other: Path) -> bool:
    """Compare the weights and the metrics of two runs bit for bit."""
    rows = [[row.metrics for row in read_metrics(run / "metrics.csv")] for run in (one, other)]
    first, second = weights_of(one), weights_of(other)
    return rows[0] == rows[1] and first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_labels_in_columns_and_separated_ones_give_the_same_run(labelled: Path, pets: Path) -> None:
    run = train_in(Path.cwd(), *WORDS, *SEPARATED, "monitor=valid_mean_average_precision")
    assert same_run(run, labelled)
    results = json.loads((run / "results.json").read_text())
    assert results["task"] == "multilabel"
    assert results["test"] == json.loads((labelled / "results.json").read_text())["test"]


def test_labels_in_arrays_give_the_run_of_their_table(labelled: Path, pets: Path) -> None:
    rows = list(csv.DictReader(pets.read_text().splitlines()))
    inputs = np.array([[float(row[name]) for name in "abcd"] for row in rows])
    targets = np.array([[name in row["labels"].split("|") for name in LABELS] for row in rows])
    np.savez("pets.npz", x=inputs, y=targets)
    words = [word for word in WORDS if not word.startswith("data")]
    words += ["data=arrays", "data.path=pets.npz", "data.task=multilabel", "data.classes=[bird,cat,dog]"]
    run = train_in(Path.cwd(), *words, "monitor=valid_mean_average_precision")
    assert same_run(run, labelled)
    assert exit_code("trainer", "evaluate", run) == 0
    test = json.loads((run / "evaluation-1.json").read_text())["test"]
    assert test == json.loads((labelled / "results.json").read_text())["test"]


def test_rows_of_numbers_in_arrays() -> None:
    inputs, numbers = np.arange(24.0).reshape(12, 2), np.arange(36.0).reshape(12, 3) / 7
    np.savez("rows.npz", x=inputs, y=numbers)
    source = array_file("rows.npz")
    assert (source.task, source.targets) == ("regression", ("y0", "y1", "y2"))
    assert source.splits["train"].targets.tolist() == numbers.tolist()
    np.savez("rows.npz", x=inputs, y=(numbers > 2).astype(int))
    with pytest.raises(UserError, match=r"expected one class for each\. If they are labels, use data\.task=multilabel"):
        array_file("rows.npz")
    assert array_file("rows.npz", task="multilabel").classes == ("0", "1", "2")
    for words, sentence in (
        ({"classes": ["a", "a", "b"]}, "expected 3 different names"),
        ({}, "more than the 0 and 1"),
    ):
        np.savez("rows.npz", x=inputs, y=numbers if not words else numbers > 2)
        with pytest.raises(UserError, match=sentence):
            array_file("rows.npz", task="multilabel", **words)


def test_a_test_of_labels_is_scikit_learns(labelled: Path, pets: Path) -> None:
    results = json.loads((labelled / "results.json").read_text())
    raw, outputs, targets = own_test(labelled)
    test, scores = results["test"], outputs.double().sigmoid()
    assert test["mean_average_precision"] == pytest.approx(sk.average_precision_score(targets, scores), rel=1e-6)
    assert test["auroc"] == pytest.approx(sk.roc_auc_score(targets, scores), rel=1e-6)
    assert [entry["label"] for entry in test["per_label"]] == list(LABELS)
    assert test["loss"] == pytest.approx(F.binary_cross_entropy_with_logits(outputs, targets.float()).item(), rel=1e-5)
    predictor = trainer.load(labelled)
    torch.testing.assert_close(predictor.predict(raw.numpy()), outputs.sigmoid())
    chosen = [tuple(name for name, one in zip(LABELS, row, strict=True) if one) for row in (outputs > 0).tolist()]
    assert predictor.labels(raw.numpy()) == chosen


def test_one_label_is_trained_like_two_classes(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.data.split._classes", lambda targets: torch.zeros(len(targets), dtype=torch.int64))
    one = train_in(Path.cwd(), *WORDS, "data.target=cat", "data.task=multilabel", "monitor=valid_auroc")
    two = train_in(Path.cwd(), *WORDS, "data.target=cat", "monitor=valid_auroc")
    first, second = weights_of(one), weights_of(two)
    assert all(torch.equal(first[name], second[name]) for name in first)
    for row, other in zip(*(read_metrics(run / "metrics.csv") for run in (one, two)), strict=True):
        assert row["train_loss"] == other["train_loss"]
        assert row["train_label_accuracy"] == other["train_accuracy"]
        assert row["valid_exact_match"] == other["valid_accuracy"]
        assert row["valid_auroc"] == other["valid_auroc"]


def test_a_list_of_one_number_is_that_number(pets: Path) -> None:
    one, other = (train_in(Path.cwd(), *WORDS, word) for word in ("data.target=[height]", "data.target=height"))
    assert same_run(one, other)


def test_linear_targets_are_learned_as_if_alone(pets: Path) -> None:
    """The mean over two targets halves the gradient of each, which twice the learning rate makes up for."""
    words = [*WORDS, "model.hidden=[]", "init=uniform", "init.bound=1e-30", "optim=sgd", "precision=float64"]
    words += ["optim.momentum=0", "optim.nesterov=false"]
    words = [word for word in words if not word.startswith("optim.lr")]
    both = train_in(Path.cwd(), *words, "data.target=[height,weight]", "optim.lr=0.04")
    tests = json.loads((both / "results.json").read_text())["test"]
    for target in tests["per_target"]:
        alone = train_in(Path.cwd(), *words, f"data.target={target['target']}", "optim.lr=0.02")
        expected = json.loads((alone / "results.json").read_text())["test"]
        for name in ("mae", "rmse", "r2"):
            assert target[name] == pytest.approx(expected[name], rel=1e-9)
    assert tests["mae"] == pytest.approx(np.mean([target["mae"] for target in tests["per_target"]]))


def test_predictions_of_labels_and_numbers_as_files(labelled: Path, measured: Path, pets: Path) -> None:
    rows = list(csv.DictReader(pets.open()))[:20]
    inputs = [{name: row[name] for name in "abcd"} for row in rows]
    for run in (labelled, measured):
        assert exit_code("trainer", "predict", run, "pets.csv", "--out", "out.csv") == 0
        assert exit_code("trainer", "predict", run, "pets.csv", "--out", "out.json") == 0
        predictor = trainer.load(run)
        expected = predictor.predict(inputs).double()
        names = [f"probability_{name}" for name in LABELS] if run == labelled else ["value_height", "value_weight"]
        written = list(csv.DictReader(Path("out.csv").read_text().splitlines()))[:20]
        entries = json.loads(Path("out.json").read_text())[:20]
        cells = torch.tensor([[float(row[name]) for name in names] for row in written], dtype=torch.float64)
        torch.testing.assert_close(cells, expected, rtol=1e-5, atol=1e-6)
        key = "probabilities" if run == labelled else "values"
        assert [list(entry[key].values()) for entry in entries] == cells.tolist()
        if run == labelled:
            assert [tuple(row["labels"].split(";")) if row["labels"] else () for row in written] == predictor.labels(
                inputs
            )


def test_the_test_is_written_sample_by_sample(labelled: Path, measured: Path, pets: Path) -> None:
    table = list(csv.DictReader(pets.read_text().splitlines()))
    rows = list(csv.DictReader((labelled / "predictions.csv").read_text().splitlines()))
    for row in rows:
        assert row["truth"] == table[int(row["row"])]["labels"].replace("|", ";")
        chosen = [name for name in LABELS if float(row[f"probability_{name}"]) > 0.5]
        assert row["prediction"] == ";".join(chosen)
    rows = list(csv.DictReader((measured / "predictions.csv").read_text().splitlines()))
    test = json.loads((measured / "results.json").read_text())["test"]
    for entry in test["per_target"]:
        name = entry["target"]
        pairs = [(float(row[f"truth_{name}"]), float(row[f"prediction_{name}"])) for row in rows]
        assert [true for true, _ in pairs] == [float(table[int(row["row"])][name]) for row in rows]
        assert np.mean([abs(true - predicted) for true, predicted in pairs]) == pytest.approx(entry["mae"], rel=1e-6)


def test_printed_predictions_name_labels_and_targets(labelled: Path, measured: Path, pets: Path, capfd: Any) -> None:
    Path("one.csv").write_text("a,b,c,d\n-1,3,-1,-3\n-1,-3,-3,-1.1\n")
    assert exit_code("trainer", "predict", labelled, "one.csv") == 0
    assert exit_code("trainer", "predict", measured, "one.csv") == 0
    lines = capfd.readouterr().out.splitlines()
    assert re.fullmatch(r"one\.csv:2: cat \d\d\.\d\d%", lines[0])
    assert re.fullmatch(r"one\.csv:3: no label; most likely \w+ \d\d?\.\d\d%", lines[1])
    assert re.fullmatch(r"one\.csv:2: height [\d.]+, weight [\d.]+", lines[2])


def test_pages_show_labels_and_targets(labelled: Path, measured: Path) -> None:
    page = run_page.html(read(labelled))
    assert ">Labels</h2>" in page
    assert "average precision" in page
    assert "Confusion matrix" not in page
    page = run_page.html(read(measured))
    assert ">Targets</h2>" in page
    assert "<h3>height</h3>" in page
    assert "<h3>weight</h3>" in page


@pytest.mark.parametrize("target", ["data.target=[bird,cat,dog]", "data.target=[height,weight]"])
def test_an_evaluation_repeats_the_test(target: str, labelled: Path, measured: Path, pets: Path, capfd: Any) -> None:
    run = labelled if "bird" in target else measured
    assert exit_code("trainer", "evaluate", run, f"data.path={pets}") == 0
    path = max(run.glob("evaluation-*.json"))
    test = json.loads((run / "results.json").read_text())["test"]
    assert json.loads(path.read_text())["test"] == test
    assert exit_code("trainer", "evaluate", run, run, "--ensemble") == 0
    ensemble = json.loads(Path("evaluation-ensemble-1.json").read_text())["test"]
    name = "mean_average_precision" if run == labelled else "r2"
    assert ensemble[name] == pytest.approx(test[name], rel=1e-6)
    capfd.readouterr()
    assert exit_code("trainer", "evaluate", run, "--calibrate") == 2
    assert "any number of labels" in (err := capfd.readouterr().err) or "no probabilities to calibrate" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["data.per_class=5"], "data.per_class: the task is multilabel, and a sample may have several labels or none"),
        (["data.balance=sampler"], "data.balance=sampler: the task is multilabel, and a sample may have several"),
        (["data.relabel={all: rest}"], "data.relabel: the task is multilabel"),
        (["loss=cross_entropy"], "loss=cross_entropy: it fits classes, and the data has 3 labels"),
        (["monitor=valid_accuracy"], "monitor=valid_accuracy: the task is multilabel; expected one of train_loss"),
        (["loss.weight=[1,2]"], "loss.weight=[1, 2]: expected balanced or 3 positive numbers, one for each label"),
        (["loss=bce", "model.output=probabilities", "model.final=sigmoid", "loss.weight=balanced"], "no label weights"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_for_labels_is_refused(words: list[str], sentence: str, pets: Path, train: Any) -> None:
    done = train(*WORDS, "data.target=[bird,cat,dog]", *words)
    assert done.code == 2
    assert sentence in done.err


def test_labels_are_mixed_weighted_and_their_probabilities_trained(pets: Path, train: Any) -> None:
    words = (*WORDS, "data.target=[bird,cat,dog]", "augment.mixup=0.4")
    done = train(*words, "loss.weight=balanced")
    assert done.code == 0, done.err
    done = train(*words, "loss=bce", "model.output=probabilities", "model.final=sigmoid")
    assert done.code == 0, done.err
    assert done.results["test"]["auroc"] > 0.5


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"classes": []}, "classes"),
        ({"classes": ["a", "a", "b"]}, "classes"),
        ({"output": "log_probabilities"}, "classes"),
        ({"task": "regression", "target_scale": {"a": [0.0, 0.0]}}, "target_scale"),
        ({"task": "regression", "target_scale": {"a": [0.0, 1.0, 2.0]}}, "target_scale"),
        ({"task": "regression", "target_scale": {"a\x1b": [0.0, 1.0]}}, "target_scale"),
        ({"task": "regression", "target_scale": {}}, "target_scale"),
        ({"task": "regression", "target_scale": {"a": [0.0, float("nan")]}}, "target_scale"),
    ],
)
def test_a_hostile_task_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        stored_task({"task": "multilabel", "classes": ["a", "b"], "output": "logits", "target_scale": None} | change)


def test_a_resumed_run_of_labels_is_the_uninterrupted_one(pets: Path, labelled: Path) -> None:
    words = (*WORDS, "data.target=[bird,cat,dog]", "monitor=valid_mean_average_precision")
    run = train_in(Path.cwd(), *words, "epochs=1")
    assert exit_code("train", f"resume={run}", "epochs=3") == 0
    assert same_run(run, labelled)


def test_the_doctor_looks_at_each_label_and_number(pets: Path, capfd: Any) -> None:
    rows = pets.read_text().splitlines()
    more = [f"{row},{int(n < 3)},{2 * float(row.split(',')[-2])}" for n, row in enumerate(rows[1:])]
    Path("more.csv").write_text("\n".join([f"{rows[0]},rare,twice", *more]))
    words = ["data=csv", "data.path=more.csv", "data.features=[a,b,c,twice]", "model=mlp", "--no-training"]
    assert exit_code("trainer", "doctor", *words, "data.target=[dog,rare]") == 0
    out = " ".join(capfd.readouterr().out.split())
    assert "column c alone determines dog" in out
    assert "training samples have the label rare" in out
    assert exit_code("trainer", "doctor", *words, "data.target=[weight,height]") == 0
    assert "column twice alone determines height" in (out := capfd.readouterr().out)
    assert "determines weight" not in out


@pytest.mark.slow
def test_the_commands_of_the_documentation(pets: Path, train: Any) -> None:
    text = (REPOSITORY / "docs" / "data.md").read_text().partition("## Several labels")[2].partition("\n## ")[0]
    commands = [shlex.split(line) for line in text.splitlines() if line.startswith("train ")]
    assert len(commands) == 3
    for _, *words in commands:
        assert (done := train(*words, "epochs=1")).code == 0, done.err
