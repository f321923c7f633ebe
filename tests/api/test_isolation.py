"""What a call from Python leaves of the caller's process, and what of it reaches the run: nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import matplotlib
import numpy as np
import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf
from torch.backends import cudnn

import trainer
from helpers.faulty_models import write
from helpers.processes import run_python

WORDS = ("data=iris", "model=mlp", "epochs=2", "plots=false", "batch_size=16")

NET = """
import os, random, signal, sys, warnings
import numpy as np, torch
from torch import nn

class Net(nn.Linear):
    def __init__(self, in_features, num_outputs, ends=None):
        super().__init__(in_features, num_outputs)
        self.calls, self.ends = 0, ends

    def forward(self, x):
        assert self.weight.dtype == x.dtype == torch.float32
        self.calls += self.training
        if self.calls == 3 and self.ends == "error":
            raise LookupError("in the user's code")
        if self.calls == 3 and self.ends == "interrupt":
            signal.raise_signal(signal.SIGINT)
        return super().forward(x) + torch.rand((), device="cpu").item() + random.random() + np.random.rand()
"""


def on_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def _own_settings(tmp_path: Path) -> Iterator[None]:
    """Settings of a calling program, none of which is a default."""
    write("drawing.py", NET)
    before = (signal.getsignal(signal.SIGINT), matplotlib.rcParams["figure.dpi"], logging.root.level, os.getcwd())
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.yaml").write_text("here: ${now:x}")
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True, warn_only=True)
    cudnn.benchmark = cudnn.deterministic = True
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    signal.signal(signal.SIGINT, on_interrupt)
    matplotlib.rcParams["figure.dpi"] = 77
    logging.root.setLevel(logging.CRITICAL)
    OmegaConf.register_new_resolver("now", lambda text: f"own {text}", replace=True)
    ConfigStore.instance().store("own", {"a": 1})
    GlobalHydra.instance().clear()  # an earlier test may have run a command
    with warnings.catch_warnings(), hydra.initialize_config_dir(str(tmp_path / "own"), version_base="1.2"):
        OmegaConf.register_new_resolver("now", lambda text: f"own {text}", replace=True)
        warnings.filterwarnings("ignore", "of the caller")
        yield
    signal.signal(signal.SIGINT, before[0])
    matplotlib.rcParams["figure.dpi"] = before[1]
    logging.root.setLevel(before[2])
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)
    cudnn.benchmark = cudnn.deterministic = False
    torch.set_num_threads(1)
    OmegaConf.clear_resolver("now")


def state() -> dict[str, Any]:
    """Return what a caller can notice of this process."""
    hydra_state = (
        GlobalHydra.instance().hydra,
        hydra.version.getbase(),
        {kind: list(those) for kind, those in Plugins.instance().plugin_type_to_subclass_list.items() if those},
        sorted(ConfigStore.instance().repo),
        hydra.compose("config"),
    )
    drawing = {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}  # reading it sets it
    settings = (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())
    return {
        "streams": (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()),
        "torch": (*settings, torch.get_deterministic_debug_mode(), torch.get_default_device()),
        "cudnn": (cudnn.benchmark, cudnn.deterministic, cudnn.enabled, cudnn.allow_tf32),
        "environment": dict(os.environ),
        "signals": [signal.getsignal(number) for number in range(1, 32)],
        "folder": os.getcwd(),
        "path": list(sys.path),
        "streams of text": (sys.stdout, sys.stderr, sys.stdin),
        "hydra": hydra_state,
        "logging": (logging.root.level, list(logging.root.handlers), logging.root.manager.disable),
        "matplotlib": (matplotlib.get_backend(auto_select=False), drawing),
        "warnings": list(warnings.filters),
        "numpy": (np.geterr(), np.get_printoptions()),
        "threads": threading.active_count(),
    }


@pytest.mark.parametrize("ends", [None, "error", "interrupt", "mistake"])
@pytest.mark.usefixtures("_own_settings")
def test_a_call_changes_nothing_in_the_process_of_its_caller(ends: str | None) -> None:
    before = state()
    keywords: dict[str, Any] = {"model": {"_target_": "drawing.Net", "ends": ends}, "deterministic": True, "threads": 1}
    words = [word for word in WORDS if not word.startswith("model")]
    if ends == "error":
        with pytest.raises(LookupError, match="in the user's code"):
            trainer.train(*words, **keywords)
    elif ends == "mistake":
        with pytest.raises(trainer.UserError):
            trainer.train(*words, "optim.lr=x", **keywords)
    else:
        with torch.no_grad():
            assert trainer.train(*words, **keywords).status == ("interrupted" if ends else "completed")
    after = state()
    assert before.keys() == after.keys()
    for name in before:
        assert before[name] == after[name], name


@pytest.mark.usefixtures("_own_settings")
def test_the_settings_of_the_caller_do_not_reach_the_run() -> None:
    words = [word for word in WORDS if not word.startswith("model")]
    run = trainer.train(*words, model={"_target_": "drawing.Net"}, threads=1)
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)
    cudnn.benchmark = cudnn.deterministic = False
    GlobalHydra.instance().clear()
    torch.manual_seed(6), random.seed(6), np.random.seed(6)
    plain = trainer.train(*words, model={"_target_": "drawing.Net"}, threads=1)
    assert run.metrics["valid_loss"] == plain.metrics["valid_loss"]


def test_a_current_folder_that_was_deleted(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(trainer.UserError, match="the current folder was deleted"):
        trainer.train(*WORDS)
    os.chdir(tmp_path)


def test_a_run_inside_an_event_loop() -> None:
    async def main() -> trainer.TrainedRun:
        return trainer.train(*WORDS, quiet=True)

    assert asyncio.run(main()).status == "completed"


def test_calls_from_several_threads_wait_for_each_other() -> None:
    runs: dict[int, trainer.TrainedRun] = {}

    def train(seed: int) -> None:
        runs[seed] = trainer.train(*WORDS, seed=seed, threads=1, quiet=True)

    threads = [threading.Thread(target=train, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = {seed: trainer.train(*WORDS, seed=seed, threads=1, quiet=True) for seed in (1, 0)}
    assert {seed: run.metrics["valid_loss"] for seed, run in runs.items()} == {
        seed: run.metrics["valid_loss"] for seed, run in sorted(alone.items())
    }


SCRIPT = """
import sys, time
before = time.process_time()
import trainer
assert time.process_time() - before < 0.1 and "torch" not in sys.modules
import torch
from torch import nn

class Net(nn.Linear):
    def __init__(self, in_features, num_outputs):
        super().__init__(in_features, num_outputs)

class Points(torch.utils.data.TensorDataset):
    def __init__(self):
        super().__init__(torch.arange(240.0).view(60, 4), torch.arange(60) % 3)

words = ("epochs=2", "plots=false", "threads=1", "data.resident=false", "data.workers=2")
run = trainer.train(*words, model={"_target_": "__main__.Net"}, data={"_target_": "__main__.Points"})
assert run.status == "completed", run.results
print(run.predict(torch.zeros(1, 4)).shape, run.labels(torch.zeros(1, 4)))
print(trainer.train(resume=run.folder, epochs=3, trust=True).metrics["epoch"])
"""


@pytest.mark.exhaustive
def test_a_script_without_a_guard_names_its_own_classes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = run_python(str(script))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[1, 2, 3]"
