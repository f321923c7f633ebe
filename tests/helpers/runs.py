"""Commands in this process, and the files that a run leaves."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.components import assemble
from helpers.words import last_of_each_key
from trainer import cli
from trainer.components.feed import evaluation_batches
from trainer.config.compose import Composer
from trainer.run.resume import resumed_job
from trainer.signals import Signals
from trainer.training import checkpoint
from trainer.training.evaluate import evaluate

REPOSITORY = Path(__file__).resolve().parents[2]
REAL_DATA = Path(os.environ.get("TRAINER_TEST_DATA", REPOSITORY.parent / "shared" / "data"))


@dataclass
class CompletedCommand:
    """A finished run: its exit code, what it printed, and its folder (None if it left none)."""

    code: int
    out: str
    err: str
    folder: Path | None

    @property
    def results(self) -> dict[str, Any]:
        assert self.folder is not None
        return json.loads((self.folder / "results.json").read_text())


def exit_code(program: str, *words: object) -> int:
    """Run `train` or `trainer` in this process as the installed script does, and return its exit code.

    Of several words with the same key, `train` gets the last one.
    """
    typed = last_of_each_key(map(str, words)) if program == "train" else map(str, words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [program, *typed])
        with pytest.raises(SystemExit) as end:
            getattr(cli, program)()
    return end.value.code


def run_folders() -> set[Path]:
    """Return the folders of runs and sweeps below the current folder."""
    return set(Path.cwd().glob("outputs/[0-9]*/*"))  # not through outputs/latest, which is replaced meanwhile


def train_in(folder: Path, *words: str) -> Path:
    """Run `train` in `folder`, in this process and on one thread, and return the run's folder."""
    with contextlib.chdir(folder):
        before = run_folders()
        assert exit_code("train", "threads=1", *words) == 0
        (new,) = run_folders() - before
    return new.resolve()


def own_test(run: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return raw samples, outputs and targets of a run's own test, as it computed them at its end."""
    job, _ = resumed_job(Composer(), [f"resume={run}"], [])
    content = checkpoint.load(run / "checkpoints" / "last.pt")
    components = assemble(job.config, saved=checkpoint.Checkpoint.from_dict(content))
    components.state.load_state_dict(content["run"])
    components.state.evaluated.load_state_dict(checkpoint.load(run / "checkpoints" / "best.pt")["model"])
    components.cache_features(("test",), lambda what, done, total: None)
    batches = evaluation_batches(
        job.config.batch_size, components.data, "test", components.loading, components.features.get("test")
    )
    components.population.eval()
    outputs, targets = evaluate(components.population.outputs, batches, Signals())
    split = components.data.splits["test"]
    return split.samples.take(split.indices), outputs, targets
