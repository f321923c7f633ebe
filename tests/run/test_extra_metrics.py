"""Metrics that a configuration adds: in the columns, as `monitor`, in results, tables and pages, after a resume."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from sklearn.metrics import cohen_kappa_score

from trainer.records.metrics import read_metrics

WORDS = ("data=iris", "model=mlp", "epochs=3", "patience=null", "metric=[cohen_kappa,f1_macro]")
MONITOR = "monitor=valid_cohen_kappa"
OWN = """
import torch

class Bias(torch.nn.Module):
    def forward(self, predictions, targets):
        return (predictions - targets).mean()
"""


def kappa(run: Path) -> float:
    """Cohen's kappa of the predictions that the run has written."""
    with (run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    return cohen_kappa_score([row["truth"] for row in rows], [row["prediction"] for row in rows])


def test_in_columns_results_pages_and_evaluations(train, verb) -> None:
    done = train(*WORDS, MONITOR, "plots=true")
    assert done.code == 0, done.err
    rows = read_metrics(done.folder / "metrics.csv")
    assert rows[0].get("valid_f1_macro") is not None
    best = max(row["valid_cohen_kappa"] for row in rows)
    results = done.results
    assert results["valid"]["cohen_kappa"] == best
    assert results["test"]["cohen_kappa"] == pytest.approx(kappa(done.folder), abs=1e-6)
    assert f"cohen kappa {results['test']['cohen_kappa']:.4f}" in done.out
    page = (done.folder / "report.html").read_text()
    assert "test cohen kappa" in page  # among the main numbers
    assert "valid_cohen_kappa" in page  # in the table of validations
    assert verb("evaluate", done.folder).code == 0
    again = json.loads((done.folder / "evaluation-1.json").read_text())
    assert again["test"]["cohen_kappa"] == results["test"]["cohen_kappa"]
    compared = verb("compare", done.folder, done.folder)
    assert "test cohen kappa" in compared.out, compared.err


def test_a_resumed_run_goes_on_with_the_same_metrics(train) -> None:
    whole = train(*WORDS, MONITOR, "threads=1")
    part = train(*WORDS, MONITOR, "threads=1", "max_steps=2")
    changed = train(f"resume={part.folder}", "metric=[cohen_kappa]")
    assert changed.code == 2
    assert "metric" in changed.err
    resumed = train(f"resume={part.folder}", "max_steps=null")
    assert resumed.code == 0, resumed.err
    assert resumed.results["test"] == whole.results["test"]
    columns = [read_metrics(each.folder / "metrics.csv")[-1].metrics for each in (whole, resumed)]
    assert columns[0] == columns[1]


def test_the_smaller_value_is_the_best_where_the_metric_says_so(train) -> None:
    words = ("data=diabetes", "model=mlp", "epochs=3", "metric=mape", "monitor=valid_mape")
    done = train(*words, "schedule=plateau")
    assert done.code == 0, done.err
    rows = read_metrics(done.folder / "metrics.csv")
    assert done.results["valid"]["mape"] == min(row["valid_mape"] for row in rows)


def test_a_metric_of_ones_own(train, verb) -> None:
    Path("own_metric.py").write_text(OWN)
    words = ("data=diabetes", "model=mlp", "epochs=1", "metric.bias._target_=own_metric.Bias", "metric.bias.better=min")
    done = train(*words, "monitor=valid_bias")
    assert done.code == 0, done.err
    with (done.folder / "predictions.csv").open() as file:
        errors = [float(row["prediction"]) - float(row["truth"]) for row in csv.DictReader(file)]
    assert done.results["test"]["bias"] == pytest.approx(sum(errors) / len(errors), rel=1e-4)
    refused = verb("evaluate", done.folder)
    assert (refused.code, "metric.bias._target_" in refused.err) == (2, True)
    assert verb("evaluate", done.folder, "--trust").code == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("metric=[cohen_kapa]", "metric=cohen_kapa: no such metric. Did you mean metric=cohen_kappa"),
        ("metric=f1", "metric=f1: it is computed anyway, in the test; at every validation if it is monitored"),
        ("metric=[mcc,rmse]", "metric=rmse: it is computed anyway, at every validation and in the test; leave it out"),
        ("metric=[precision,mcc]", "metric=precision: it is computed anyway, in the test; leave it out"),
        ("monitor=valid_mcc", "monitor=valid_mcc: expected"),
        ("metric=mcc monitor=valid_mc", "Did you mean valid_mcc?"),
        ("metric.f1._target_=torchmetrics.classification.F1Score", "this program has a metric of this name"),
        ("metric.per_class._target_=torchmetrics.classification.F1Score", "this program has a metric of this name"),
        ("metric.a-b=3", "metric.a-b"),
        ("metric=3", "no such metric"),
    ],
)
def test_what_is_misspelt_is_answered(words: str, sentence: str, train) -> None:
    done = train(*words.split())
    assert (done.code, done.folder) == (2, None)
    assert sentence in done.err


@pytest.mark.slow
def test_a_sweep_and_a_stack_rank_by_a_metric(train) -> None:
    words = (*WORDS, MONITOR, "optim.lr=1e-4,1e-1", "sweep.workers=1")
    done = train("-m", *words)
    stacked = train("-m", *words, "sweep.stack=true")
    for each in (done, stacked):
        assert each.code == 0, each.err
        with (each.folder / "leaderboard.csv").open() as file:
            rows = list(csv.DictReader(file))
        values = [float(row["valid_cohen_kappa"]) for row in rows]
        assert values == sorted(values, reverse=True)
        assert float(rows[0]["optim.lr"]) == 0.1
