"""Benchmarks of sweeps and of cached features, for `benchmark.py`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
RATES = "1e-4,3e-4,1e-3,2e-3,3e-3,5e-3,1e-2,3e-2"

# Like Hydra's multirun: one process, one job after the other, each reading its own data. Without imports.
ONE_AFTER_THE_OTHER = """
import sys, time
import trainer.run.run, torchmetrics.functional.classification
from trainer import cli
begin = time.perf_counter()
for rate in sys.argv[1].split(","):
    assert cli.run_train([*sys.argv[2:], f"optim.lr={rate}", "plots=false", "test=false"]) == 0
print("SECONDS", time.perf_counter() - begin)
"""
SWEEP = """
import sys, time
import trainer.run.run, trainer.sweeps.start, torchmetrics.functional.classification
from trainer import cli
begin = time.perf_counter()
assert cli.run_train(["-m", *sys.argv[2:], f"optim.lr={sys.argv[1]}", "test=false"]) == 0
print("SECONDS", time.perf_counter() - begin)
"""
COMPOSE = """
import time
from trainer.config.compose import Composer
from trainer.sweeps.grid import compose_jobs, read_overrides
composer = Composer()
begin = time.perf_counter()
words = ["model=lenet5,cnn", "optim.lr=1e-4,1e-3,1e-2,1e-1", "seed=range(32)"]
jobs = compose_jobs(composer, read_overrides(composer, words))
assert len(jobs) == 256
print("SECONDS", time.perf_counter() - begin)
"""


def _seconds(code: str, place: str, *words: str) -> float:
    completed = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=place, env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    return float(completed.stdout.rpartition("SECONDS ")[2])


def sweep(arguments: argparse.Namespace) -> None:
    """Measure composing of jobs, the overhead of a job, and a sweep against Hydra's own multirun.

    Promised: 5 s for 256 jobs; 0.15 s; 0.6 for 8 jobs on two cores.
    """
    with tempfile.TemporaryDirectory() as place:
        composing = [_seconds(COMPOSE, place) for _ in range(arguments.repeats)]
        print(f"composing 256 jobs: {min(composing):.2f} s (least of {arguments.repeats})")
    words = ["model=mnist_classifier", "data=mnist", f"data.root={arguments.data}", "epochs=2"]
    ratios = []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as place:
            alone = _seconds(ONE_AFTER_THE_OTHER, place, RATES, *words)
        with tempfile.TemporaryDirectory() as place:
            swept = _seconds(SWEEP, place, RATES, *words)
            overhead = _overhead(next(Path(place).glob("outputs/*/*-sweep")))
        ratios.append(swept / alone)
        print(
            f"8 jobs: one after the other {alone:.1f} s, sweep {swept:.1f} s: {ratios[-1]:.2f}; "
            f"overhead of a job {overhead:.3f} s"
        )
    print(f"median of the ratios {sorted(ratios)[len(ratios) // 2]:.2f}")


def _overhead(folder: Path) -> float:
    """Return the mean seconds of a job, from its start to its end in the ledger, beyond its training."""
    started: dict[int, float] = {}
    beyond = []
    names: dict[int, str] = {}
    for line in map(json.loads, (folder / "sweep.jsonl").read_text().splitlines()[1:]):
        names.setdefault(line["job"], line.get("name"))
        if line["state"] == "running":
            started[line["job"]] = line["time"]
        elif line["state"] == "done":
            results = json.loads((folder / names[line["job"]] / "results.json").read_text())
            beyond.append(line["time"] - started[line["job"]] - results["seconds"]["training"])
    return sum(beyond) / len(beyond)


FEATURES = """
import sys, time, torch
import trainer.run.run, torchvision
from trainer.config.compose import Composer
from trainer.components.assemble import assemble
from trainer.training.loop import fit
from trainer.training.interfaces import TrainingData
from trainer.signals import Signals

class Silent:
    def due(self, state): return False
    def save(self, state): return True
    def save_best(self, state): pass
    def begin(self, *progress): pass
    advance = row = begin

composer = Composer()
words = [*sys.argv[1:], "model=resnet18", "model.weights=none", "freeze=backbone", "patience=null", "epochs=10"]
job = composer.job(composer.read(words, sweep=False)[0])
assert not job.problems, job.problems
components = assemble(job.config, trusted=True)
with Signals() as signals:
    begin = time.perf_counter()
    components.cache_features(("train", "valid"), lambda *how_far: None)
    fit(components.population, TrainingData(components.train, components.valid), Silent(), Silent(), signals)
    ours = time.perf_counter() - begin
model = components.state.model.eval()
splits = [components.data.splits[name] for name in ("train", "valid")]
images = torch.cat([split.samples.take(split.indices) for split in splits])
begin = time.perf_counter()
with torch.no_grad():
    for batch in images.split(64):
        model(components.data.prepare(batch).contiguous(memory_format=torch.channels_last))
bare = time.perf_counter() - begin
print("SECONDS", ours / bare)
"""


def features(arguments: argparse.Namespace) -> None:
    """Measure ten epochs of a linear head on a frozen ResNet-18 against one forward pass over the images.

    Promised: 1.3, at 224 pixels.
    """
    words = ["data=image_folder", f"data.root={arguments.data}/cifar10-jpeg", "data.size=224", "data.per_class=20"]
    with tempfile.TemporaryDirectory() as place:
        ratios = [_seconds(FEATURES, place, *words) for _ in range(min(arguments.repeats, 3))]
    print(f"10 epochs / forward pass: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
