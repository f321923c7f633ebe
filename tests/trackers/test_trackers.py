"""Trackers receive the values of metrics.csv and results.json, and do not change or stop a run."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sqlite3
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.metrics import metrics_row
from helpers.runs import REPOSITORY, train_in
from helpers.trees import same_tree
from trainer.config.keys import LoggerConfig
from trainer.data.metrics import SplitReport
from trainer.records.metrics import read_metrics
from trainer.records.results import Results
from trainer.trackers.base import NAMES, SafeTracker, external_destination, final_figures, problems, tracker_class
from trainer.training import checkpoint

WORDS = ("data=iris", "model=mlp", "epochs=3", "plots=false", "model.dropout=0.1")


def needs(library: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(library) is None, reason=f"{library} is not installed")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_in(tmp_path_factory.mktemp("plain"), *WORDS)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorboard")
    return train_in(tmp_path_factory.mktemp("board"), *WORDS, "logger=tensorboard")


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_has_every_row_and_the_final_figures(board: Path) -> None:
    found, rows = scalars(board), read_metrics(board / "metrics.csv")
    for tag, column in (("loss/train", "train_loss"), ("accuracy/valid", "valid_accuracy"), ("lr", "lr")):
        assert found[tag] == [(int(row["step"]), pytest.approx(row[column], rel=1e-6)) for row in rows]
    results = json.loads((board / "results.json").read_text())
    assert found["accuracy/test"][-1][1] == pytest.approx(results["test"]["accuracy"], rel=1e-6)
    assert found["loss/best_valid"][-1][1] == pytest.approx(results["valid"]["loss"], rel=1e-6)


def test_tensorboard_can_compare_hyperparameters(board: Path) -> None:
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventMultiplexer({"run": str(board / "tensorboard")})
    events.Reload()
    content = events.SummaryMetadata("run", metadata.SESSION_START_INFO_TAG).plugin_data.content
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    assert hparams["optim.lr"].number_value == pytest.approx(1e-3)
    assert hparams["model._target_"].string_value == "trainer.models.mlp.MLP"


def test_a_tracker_changes_nothing(plain: Path, board: Path) -> None:
    for name in ("last.pt", "best.pt"):
        a, b = (checkpoint.load(run / "checkpoints" / name) for run in (plain, board))
        if name == "last.pt":
            assert same_tree(a["run"]["model"], b["run"]["model"])
            assert same_tree(a["run"]["optimizer"], b["run"]["optimizer"])
        else:
            assert same_tree(a["model"], b["model"])
    assert json.loads((plain / "results.json").read_text())["test"] == json.loads(
        (board / "results.json").read_text()
    )["test"]  # fmt: skip


def test_the_logger_may_change_on_resume(plain: Path, tmp_path: Path, train) -> None:
    pytest.importorskip("tensorboard")
    run = Path(shutil.copytree(plain, tmp_path / "run"))
    assert train(f"resume={run}", "epochs=5", "logger=tensorboard").code == 0
    steps = [step for step, _ in scalars(run)["loss/train"]]
    assert steps == [int(row["step"]) for row in read_metrics(run / "metrics.csv")][3:]


@pytest.mark.parametrize("logger", ["tensorboard", "mlflow", "wandb"])
def test_a_tracker_that_is_not_installed_is_told_before_anything_is_done(
    logger: str, monkeypatch: pytest.MonkeyPatch, train
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = train(*WORDS, f"logger={logger}")
    assert done.code == 2
    err = done.err
    assert err == (f"train: error: logger={logger}: {logger} is not installed: pip install 'trainer-cli[{logger}]'\n")
    assert not Path("outputs").exists()


class Failing:
    """A tracker whose disk is full from its second row on."""

    def __init__(self) -> None:
        self.rows = 0

    def row(self, step: int, figures: dict) -> None:
        self.rows += 1
        if self.rows > 1:
            raise OSError("no space left\non device")

    def end(self, status: str, figures: dict) -> None:
        raise AssertionError("it was off")


def test_a_tracker_that_fails_is_off_and_told_once() -> None:
    notes: list[str] = []
    tracker = Failing()
    guarded = SafeTracker("tensorboard", lambda: tracker, notes.append)
    for step in (1, 2, 3):
        guarded.row(metrics_row(step, train_loss=None, valid_loss=1.0))
    guarded.end(Results("completed"))
    assert tracker.rows == 2
    assert notes == ["logger=tensorboard failed and is off from here on: no space left on device"]


def test_a_run_outlives_its_tracker(tmp_path: Path, train) -> None:
    """The folder of the event files is taken by a file."""
    pytest.importorskip("tensorboard")
    run = train_in(tmp_path, *WORDS, "epochs=1")
    (run / "tensorboard").write_text("in the way")
    done = train(f"resume={run}", "epochs=4", "logger=tensorboard")
    assert done.code == 0
    out, err = done.out, done.err
    assert err.count("logger=tensorboard failed and is off from here on") == 1
    assert "Traceback" not in out + err
    assert len(read_metrics(run / "metrics.csv")) == 4


@pytest.mark.parametrize(
    ("config", "place"),
    [
        (LoggerConfig("csv", uri="http://x"), None),
        (LoggerConfig("tensorboard"), None),
        (LoggerConfig("mlflow"), None),
        (LoggerConfig("mlflow", uri="sqlite:///x.db"), None),
        (LoggerConfig("mlflow", uri="http://evil.example"), "http://evil.example"),
        (LoggerConfig("wandb"), None),
        (LoggerConfig("wandb", online=True), "Weights & Biases"),
    ],
)
def test_what_stays_on_this_machine(config: LoggerConfig, place: str | None) -> None:
    assert external_destination(config) == place


def test_a_stored_configuration_sends_nothing_anywhere(plain: Path, tmp_path: Path, train) -> None:
    run = Path(shutil.copytree(plain, tmp_path / "run"))
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(
        text.replace("  name: csv\n", "  name: mlflow\n").replace("  uri: null", "  uri: http://evil.example")
    )
    assert "evil.example" in (run / "config.yaml").read_text()
    done = train(f"resume={run}", "epochs=4")
    assert done.code == 2
    err = done.err
    assert "the stored configuration sends results to http://evil.example" in err
    assert err.count("\n") == 1
    assert train(f"resume={run}", "epochs=4", "logger=csv").code == 0


def test_final_figures_are_numbers() -> None:
    results = Results("completed", epochs=3, test=SplitReport({"accuracy": 0.5, "auroc": None}))
    results = replace(results, parameters={"total": 5}, seconds={"total": 1.5})
    assert final_figures(results) == {"test_accuracy": 0.5, "epochs": 3.0, "parameters": 5.0, "seconds": 1.5}


def test_a_tracker_is_a_module_an_option_and_an_extra_of_one_name() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    options = {path.stem for path in (REPOSITORY / "conf" / "logger").glob("*.yaml")}
    assert options == {"csv", *NAMES}
    assert extras.keys() >= set(NAMES)
    assert all(tracker_class(name) for name in NAMES)


@pytest.mark.parametrize("name", ["base", "os", "tensorboard.x", "../x"])
def test_no_other_module_is_a_tracker(name: str) -> None:
    assert tracker_class(name) is None
    assert "expected one of csv, mlflow, tensorboard, wandb" in str(problems(LoggerConfig(name))[0])


def test_csv_needs_nothing() -> None:
    assert problems(LoggerConfig("csv")) == []


@needs("mlflow")
def test_mlflow_has_parameters_metrics_and_the_end(tmp_path: Path, train) -> None:
    run = train_in(tmp_path, *WORDS, "logger=mlflow")
    database = sqlite3.connect(tmp_path / "outputs" / "mlflow.db")
    rows = read_metrics(run / "metrics.csv")
    logged = database.execute("select step, value from metrics where key = 'valid_loss' order by step").fetchall()
    assert logged == [(int(row["step"]), pytest.approx(row["valid_loss"])) for row in rows]
    assert database.execute("select value from params where key = 'optim.lr'").fetchall() == [("0.001",)]
    assert database.execute("select status, name from runs").fetchall() == [("FINISHED", run.name)]
    results = json.loads((run / "results.json").read_text())
    (accuracy,) = database.execute("select value from metrics where key = 'test_accuracy'").fetchone()
    assert accuracy == pytest.approx(results["test"]["accuracy"])
    assert train(f"resume={run}", "epochs=5").code == 0
    logged = database.execute("select step from metrics where key = 'valid_loss' order by step").fetchall()
    assert len(logged) == 5
    assert database.execute("select status from runs").fetchall() == [("FINISHED",)]


@needs("wandb")
def test_wandb_stays_offline(tmp_path: Path, plain: Path) -> None:
    run = train_in(tmp_path, *WORDS, "logger=wandb")
    assert list((run / "wandb").glob("offline-run-*/run-*.wandb"))
    a, b = (checkpoint.load(r / "checkpoints" / "best.pt")["model"] for r in (plain, run))
    assert all(torch.equal(a[name], b[name]) for name in a)
