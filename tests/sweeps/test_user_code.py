"""A user's code may raise anything, even SystemExit: one sentence reports it, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.faulty_models import write

NET = """
import sys
from torch import nn

class Net(nn.Linear):
    def __init__(self, in_features, num_outputs, fault="none"):
        super().__init__(in_features, num_outputs)
        self.fault = fault
        if fault == "exits":
            sys.exit(0)
        if fault == "lacks":
            {}["no key"]

    def forward(self, x):
        if self.fault == "lacks_later" or (self.fault == "lacks_in_training" and x.device.type != "meta"):
            {}["no key"]
        return super().forward(x)
"""
WORDS = ("data=iris", "model=ours", "threads=1", "plots=false", "epochs=1")


@pytest.fixture(autouse=True)
def _ours() -> None:
    write("net.py", NET)
    write("conf/model/ours.yaml", "# Ours\n_target_: net.Net\nfault: none\n")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("exits", "SystemExit: 0 in net.py, line 10"),
        ("lacks", "KeyError: 'no key' in net.py, line 12"),
        ("lacks_later", "KeyError: 'no key' in net.py, line 16"),
    ],
)
def test_a_model_that_cannot_be_built_is_named(fault: str, reason: str, sweep) -> None:
    done = sweep("-m", *WORDS, f"model.fault=none,{fault}")
    assert done.code == 2
    assert done.err == f"train: error: model._target_=net.Net: it cannot be built: {reason}.\n"
    assert not Path("outputs").exists()


def test_a_failing_step_of_an_estimate_is_reported(sweep) -> None:
    done = sweep("-m", *WORDS, "model.fault=lacks_in_training", "seed=0,1", "sweep.dry_run=true")
    assert done.code == 1
    sentence = "model._target_=net.Net: a training step failed: KeyError: 'no key' in net.py, line 16."
    assert done.err == f"train: error: {sentence}\n"


def test_a_single_run_whose_model_exits_has_failed(sweep) -> None:
    done = sweep(*WORDS, "model.fault=exits")
    assert done.code == 1
    assert done.err == "train: error: your own code ended the program: SystemExit: 0 in net.py, line 10.\n"
