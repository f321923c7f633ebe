"""debug=profile: the trace is readable, names the model's operators, and shows where a slow dataset spends time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.runs import CompletedCommand
from helpers.trees import same_tree
from trainer.training.checkpoint import load

SLOW = """
import time

import torch


class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, i):
        time.sleep(0.002)
        return torch.full((1, 8, 8), i / 64), i % 2
"""


@pytest.fixture(scope="module")
def shared() -> dict[str, CompletedCommand]:
    return {}


@pytest.fixture
def profiled(train, shared: dict[str, CompletedCommand]) -> CompletedCommand:
    """LeNet-5 on the bundled digits, once for all tests."""
    if not shared:
        shared["run"] = train("debug=profile", "max_steps=22", "model=lenet5", "device=cpu")
    assert shared["run"].code == 0, shared["run"].err
    return shared["run"]


def summary_of(done: CompletedCommand) -> dict:
    assert done.folder is not None
    return json.loads((done.folder / "profile.json").read_text())


def test_the_trace_names_the_models_operators_and_the_phases(profiled: CompletedCommand) -> None:
    assert profiled.folder is not None
    events = json.loads((profiled.folder / "trace.json").read_text())["traceEvents"]
    names = [event.get("name") for event in events]
    for operator in ("aten::conv2d", "aten::addmm", "aten::convolution_backward", "aten::tanh"):
        assert operator in names
    assert names.count("phase: forward") == names.count("phase: backward") == 12
    assert names.count("phase: data") == 12 + 1  # the last call finds the end of the epoch
    assert "phase: validation" not in names


def test_shares_add_up_to_one(profiled: CompletedCommand) -> None:
    summary = summary_of(profiled)
    assert summary["steps"] == 12
    assert sum(summary["shares"].values()) == pytest.approx(1)
    model = sum(summary["shares"][name] for name in ("forward", "backward", "optimizer"))
    assert summary["not_model_share"] == pytest.approx(1 - model)
    assert summary["not_model_share"] > 0


@pytest.mark.slow
def test_shares_are_those_of_the_trace(profiled: CompletedCommand) -> None:
    summary = summary_of(profiled)
    events = json.loads((profiled.folder / "trace.json").read_text())["traceEvents"]
    forward = sum(event["dur"] for event in events if event.get("name") == "phase: forward")
    backward = sum(event["dur"] for event in events if event.get("name") == "phase: backward")
    seconds = summary["seconds_per_step"] * 12
    assert summary["shares"]["forward"] * seconds == pytest.approx(forward / 1e6, rel=1e-3)
    assert summary["shares"]["backward"] * seconds == pytest.approx(backward / 1e6, rel=1e-3)


@pytest.mark.slow
def test_ten_operators_are_listed_the_costliest_first(profiled: CompletedCommand) -> None:
    operators = summary_of(profiled)["operators"]
    assert len(operators) == 10
    assert [op["seconds"] for op in operators] == sorted((op["seconds"] for op in operators), reverse=True)
    assert "aten::convolution_backward" in [op["name"] for op in operators[:4]]
    backward = next(op for op in operators if op["name"] == "aten::convolution_backward")
    assert backward["calls"] == 2 * 12
    text = (profiled.folder / "profile.txt").read_text()
    assert text in profiled.out
    assert all(op["name"][:36] in text for op in operators if not op["name"].startswith("autograd::"))


@pytest.mark.slow
def test_it_stops_tests_nothing_and_changes_nothing(profiled: CompletedCommand, train) -> None:
    assert profiled.results["status"] == "completed"
    assert profiled.results["steps"] == 22
    assert profiled.results["test"] is None
    assert "resume=" not in profiled.out
    assert "profiler" not in profiled.err
    plain = train("debug=profile", "debug.profile=false", "max_steps=22", "model=lenet5", "device=cpu")
    weights = [load(done.folder / "checkpoints" / "last.pt")["run"]["model"] for done in (profiled, plain)]
    assert same_tree(*weights)


@pytest.mark.slow
def test_a_slow_data_set_shows(train) -> None:
    Path("slow.py").write_text(SLOW)
    words = ["data=custom", "data._target_=slow.Slow", "model=ann", "batch_size=16", "drop_last=true", "max_steps=18"]
    summary = summary_of(train("debug=profile", *words, "data.resident=false", "data.workers=0"))
    assert summary["shares"]["data"] * summary["seconds_per_step"] >= 16 * 0.002  # a batch cannot be read faster
    assert summary["not_model_share"] >= summary["shares"]["data"]


@pytest.mark.slow
def test_validations_and_saves_have_shares_of_their_own(train) -> None:
    done = train(
        "debug=profile", "model=ann", "max_steps=20", "validate_every=4st", "checkpoint.every=6st", "accumulate=2"
    )
    assert done.code == 0, done.err
    shares = summary_of(done)["shares"]
    assert shares["validation"] > 0
    assert shares["saving"] > 0
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("word", ["max_steps=null", "max_steps=10", "max_steps=5000"])
@pytest.mark.slow
def test_max_steps_is_needed_and_limited(word: str, train) -> None:
    done = train("debug=profile", word)
    assert done.code == 2
    assert "expected max_steps from 11 to 1010, such as max_steps=40" in done.err
    assert done.folder is None


@pytest.mark.slow
def test_a_run_too_short_for_its_warm_up_says_so(train) -> None:
    done = train("debug=profile", "model=ann", "debug.batches=2", "epochs=3")
    assert done.code == 0, done.err
    assert "none: training ended after 6 steps, and the first 10 warm up" in done.out
    assert not (done.folder / "profile.json").exists()


@pytest.mark.slow
def test_a_run_that_ends_while_it_is_recorded_shows_what_there_is(train) -> None:
    done = train("debug=profile", "model=ann", "debug.batches=2", "epochs=8")
    assert summary_of(done)["steps"] == 6
    assert sum(summary_of(done)["shares"].values()) == pytest.approx(1)
