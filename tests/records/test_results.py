"""JSON files: values survive a round trip; a value of another type is refused, with its key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer.data.metrics import ClassReport, SplitReport
from trainer.records.details import (
    Bin,
    CalibrationReport,
    Details,
    EvaluationRecord,
    Mistake,
    Reliability,
    ScaledReliability,
    read_details,
    read_evaluations,
    write_details,
)
from trainer.records.results import Results, read_results, write_results
from trainer.records.schema import dump

CLASSES = [ClassReport("cat", 3, 4, 0.75, 0.6, 0.75, 0.667), ClassReport("dog", 0, 0, None, None, None, None)]
CLASSIFICATION = SplitReport({"loss": 0.5, "auroc": None}, 0.5, CLASSES, [[3, 1], [0, 0]])
REGRESSION = SplitReport({"loss": 0.5, "mae": 1.5, "r2": None})
BINS = [Bin(0.0, 0.5, 0, None, None), Bin(0.5, 1.0, 4, 0.9, 0.75)]


@pytest.mark.parametrize("test", [None, CLASSIFICATION, REGRESSION])
def test_results_come_back_as_written(test: SplitReport | None) -> None:
    results = Results(
        "completed", epochs=3, best_epoch=2, valid={"loss": 0.1 + 0.2}, test=test, seconds={"total": 1.5},
        command=["a"], skipped_images=[{"path": "x.png", "reason": "cut off"}], peak_memory_bytes=2**40,
    )  # fmt: skip
    write_results(Path(), results)
    assert read_results(Path()) == results


def test_a_report_is_one_flat_object() -> None:
    write_results(Path(), Results("completed", test=CLASSIFICATION))
    stored = json.loads(Path("results.json").read_text())["test"]
    assert stored.keys() == {"loss", "auroc", "threshold", "per_class", "confusion_matrix"}
    assert stored["per_class"][0]["class"] == "cat"
    write_results(Path(), Results("completed", test=REGRESSION))
    assert json.loads(Path("results.json").read_text())["test"] == {"loss": 0.5, "mae": 1.5, "r2": None}


def test_without_a_file_there_are_no_results() -> None:
    assert read_results(Path()) is None
    assert read_details(Path()) == Details()
    assert read_evaluations(Path()) == {}


def test_details_and_evaluations_come_back_as_written() -> None:
    details = Details(Reliability(0.1, 0.2, BINS), [Mistake("AAAA", "cat", "dog", 0.9)])
    write_details(Path(), details)
    assert read_details(Path()) == details
    calibration = CalibrationReport(Reliability(0.1, 0.2, BINS), ScaledReliability(0.05, 0.2, BINS, temperature=1.5))
    record = EvaluationRecord("test", 4, CLASSIFICATION, run=["a", "b"], nll=0.2, calibration=calibration)
    Path("evaluation-2.json").write_text(dump(record))
    Path("evaluation-3.json").touch()  # still being written
    assert read_evaluations(Path()) == {"evaluation-2.json": record}
    assert not {"epoch", "step", "mse"} & json.loads(Path("evaluation-2.json").read_text()).keys()


def test_what_is_not_finite_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_results(Path(), Results("completed", valid={"loss": float("nan")}))
    assert not Path("results.json").exists()
