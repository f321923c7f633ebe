"""Benchmarks of stacked sweeps against the same jobs one by one and with workers, for `benchmark.py`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmark_sweep import ENVIRONMENT

RATES = "optim.lr=" + ",".join(f"{1e-4 * 10 ** (i / 4):.3g}" for i in range(8))
DECAYS = "optim.weight_decay=" + ",".join(f"{1e-3 * 2**i:.3g}" for i in range(8))
MORE_RATES = "optim.lr=" + ",".join(f"{1e-4 * 10 ** (i / 8):.3g}" for i in range(16))
MORE_DECAYS = "optim.weight_decay=" + ",".join(f"{1e-3 * 1.5**i:.3g}" for i in range(16))
SWEEPS = {
    "64 mnist_classifier on MNIST, an epoch": ["model=mnist_classifier", "data=mnist", "epochs=1", RATES, DECAYS],
    "256 mlp 30-64-64 on breast_cancer, 50 epochs": [
        *("model=mlp", "data=breast_cancer", "epochs=50", "patience=null", MORE_RATES, MORE_DECAYS)
    ],
    "16 lenet5 on MNIST, 200 steps": [
        *("model=lenet5", "data=mnist", "max_steps=200", "optim.lr=1e-3,2e-3,4e-3,8e-3"),
        "optim.weight_decay=0,1e-3,1e-2,1e-1",
    ],
}
WAYS = {
    "one after the other": ["sweep.workers=1", "threads=1"],  # two threads are no faster where models are small
    "two workers": ["sweep.workers=2"],
    "stacked": ["sweep.stack=true"],
}


def stack(arguments: argparse.Namespace) -> None:
    """Measure stacked sweeps against the same jobs one by one and with two workers: training time and whole command.

    Promised: 0.25 and 0.5 for 64 mnist_classifier, 0.15 for 256 mlp.
    """
    for name, words in SWEEPS.items():
        print(f"\n{name}")
        seconds: dict[str, tuple[float, float]] = {}
        for way, how in WAYS.items():
            seconds[way] = min(
                _cost([*words, f"data.root={arguments.data}", *how]) for _ in range(arguments.stack_repeats)
            )
            training, whole = seconds[way]
            base = seconds["one after the other"][0]
            print(f"{way:<22} training {training:8.2f} s, ratio {training / base:.3f}; whole command {whole:7.2f} s")
        print(f"stacked against two workers: {seconds['stacked'][0] / seconds['two workers'][0]:.3f}")
    _by_number(["model=mnist_classifier", "data=mnist", f"data.root={arguments.data}", "threads=2"])


STEPS = """
import resource, sys, time
import trainer.run.run
from trainer.config.compose import Composer
from trainer.data.loader import DataCache
from trainer.stack.build import stacked
from trainer.stack.trial import build_each
from trainer.training.step import train_step

runs, words = int(sys.argv[1]), sys.argv[2:]
composer = Composer()
rates = [f"optim.lr={1e-4 * 1.02**run}" for run in range(runs)]
jobs = [composer.job(composer.read([*words, rate], sweep=False)[0]) for rate in rates]
components = list(build_each(jobs, DataCache(), True))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
population, data = stacked(components)
population.train()
times = []
for _, batch in zip(range(40), data.train.epoch(0)):
    begin = time.perf_counter()
    train_step(population, [batch])
    times.append(time.perf_counter() - begin)
print(min(times), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def _by_number(words: list[str]) -> None:
    """Measure a step of many runs at a time, in one process, each with its own settings."""
    print("\na step of mnist_classifier, batches of 64, two threads; memory beyond the models and the data")
    print(f"{'runs':>6} {'ms':>9} {'ms a run':>9} {'MB':>9}")
    for runs in (1, 4, 16, 64, 256):
        command = [sys.executable, "-c", STEPS, str(runs), *words]
        outputs = [
            subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, text=True) for _ in range(3)
        ]
        seconds, memory = min(tuple(map(float, output.stdout.split())) for output in outputs)
        print(f"{runs:>6} {seconds * 1e3:>9.2f} {seconds * 1e3 / runs:>9.3f} {memory:>9.0f}")


def _cost(words: list[str]) -> tuple[float, float]:
    """Return the wall-clock seconds of training, and of the whole command."""
    with tempfile.TemporaryDirectory() as place:
        begin = time.perf_counter()
        command = [sys.executable, "-m", "trainer", "-m", *words, "test=false"]
        subprocess.run(command, cwd=place, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
        whole = time.perf_counter() - begin
        folder = Path(place, "outputs", "latest")
        results = [json.loads(path.read_text()) for path in sorted(folder.glob("[0-9]*/results.json"))]
        at_once = max(len(list(folder.glob("stack-*"))), 2 if "sweep.workers=2" in words else 1)
        return sum(result["seconds"]["training"] for result in results) / at_once, whole
