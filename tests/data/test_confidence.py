"""Small tests: the interval of an accuracy against SciPy, and what is printed beside the figure."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import binomtest

from trainer.data.confidence import interval_text, wilson


@pytest.mark.parametrize(("correct", "total"), [(0, 1), (1, 1), (5, 5), (0, 7), (3, 8), (950, 1000)])
def test_wilson_is_that_of_scipy(correct: int, total: int) -> None:
    expected = binomtest(correct, total).proportion_ci(method="wilson")
    assert wilson(correct, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_samples_have_no_interval() -> None:
    assert interval_text(0, 0) is None
    assert interval_text(5, 5) == "56.6% to 100.0%"


def test_a_handful_is_said_beside_the_figure(train) -> None:
    """Two classes that are easily told apart, the third without a test sample: all right is not 100 %."""
    rows = [f"{place + 9 * (place % 2)},{'ab'[place % 2]},train" for place in range(60)]
    rows += ["200,c,train"] * 4 + ["1,a,valid", "12,b,valid", "200,c,valid", "0,a,test", "10,b,test", "2,a,test"]
    Path("few.csv").write_text("\n".join(["x,y,part", *rows]))
    words = ("data=csv", "data.path=few.csv", "data.target=y", "data.split=part", "model=mlp", "epochs=1")
    done = train(*words, "plots=true")
    assert done.code == 0, done.err
    test = done.results["test"]
    correct = sum(entry["correct"] for entry in test["per_class"])
    interval = binomtest(correct, 3).proportion_ci(method="wilson")
    assert test["samples"] == 3
    assert test["accuracy_interval"] == pytest.approx({"low": interval.low, "high": interval.high})
    beside = f"{correct / 3:.2%} (3 samples; 95 %: {interval.low:.1%} to {interval.high:.1%})"
    assert f"accuracy {beside}, " in done.out
    assert "without samples of c: the test says nothing about them" in done.out
    page = (done.folder / "report.html").read_text()
    assert beside in page
    assert "Without samples of c" in page
    assert "accuracy, 95 % interval" in page
