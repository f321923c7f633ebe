"""The settings that are killed and damaged: small, but between them they use every part that has a state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from helpers.datasets import write_photos, write_table
from helpers.faulty_models import write
from helpers.words import photo_words, table_words

# Every item draws from all three streams that a user's code may draw from.
NOISY = """
import random
import numpy as np
import torch

class Noisy(torch.utils.data.Dataset):
    def __len__(self):
        return 96

    def __getitem__(self, index):
        label = index % 3
        noise = torch.randn(4) + random.random() + float(np.random.rand())
        return noise + label, label
"""


@dataclass(frozen=True)
class Setting:
    """Arguments of `train` that are run again and again.

    Attributes:
        words: the arguments; `{data}` stands for the folder with the shared photos and the table.
        prepare: writes files of the user's own into the current folder.
        exact: whether a resumed run must be equal bit for bit; stacks are equal up to rounding.
    """

    name: str
    words: tuple[str, ...]
    prepare: Callable[[], None] | None = None
    exact: bool = True

    @property
    def is_sweep(self) -> bool:
        return "-m" in self.words

    def filled(self, data: Path) -> tuple[str, ...]:
        """Return the arguments with the folder of the data filled in."""
        return ("threads=1", *(word.replace("{data}", str(data)) for word in self.words))


def write_data(folder: Path) -> None:
    """Write the photos and the table that settings share."""
    write_photos(folder / "photos")
    write_table(folder / "people.csv")


# A model whose masks come from torch's own stream.
MASKED = """
import torch
from torch import nn

class Masked(nn.Linear):
    def __init__(self, in_features, num_outputs):
        super().__init__(in_features, num_outputs)

    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.3, self.training))
"""


def _write_noisy() -> None:
    write("noisy.py", NOISY)
    write("masked.py", MASKED)
    write("conf/model/masked.yaml", "# Ours\n_target_: masked.Masked\n")


FAST = ("plots=false",)
SWEEP = ("-m", "data=iris", "model=mlp", "patience=null", "checkpoint.every=1ep", "sweep.workers=1", *FAST)

SETTINGS = (
    Setting("plain", ("model=mlp", "epochs=2", "checkpoint.every=1ep", "plots=true")),
    Setting(
        "dropout",
        (
            *("model=ann", "augment=light", "epochs=2", "clip_norm=1.0"),
            *("validate_every=9st", "checkpoint.every=4st", *FAST),
        ),
    ),
    Setting(
        "average",
        (
            *("model=mnist_classifier", "schedule=one_cycle", "epochs=3", "accumulate=3", "ema.decay=0.9"),
            *("checkpoint.every=1ep", *FAST),
        ),
    ),
    Setting(
        "warm-up",
        (
            "model=mlp",
            "optim=sgd",
            "schedule=cosine",
            "schedule.warmup_epochs=1",
            "epochs=3",
            "checkpoint.every=7st",
            *FAST,
        ),
    ),
    Setting(
        "streamed",
        (
            *("model=lenet5", "augment=light", "data.per_class=20", "data.resident=false", "data.workers=2"),
            *("epochs=2", "checkpoint.every=2st", *FAST),
        ),
    ),
    Setting(
        "photos",
        (*photo_words(Path("{data}/photos")), "checkpoint.every=2st", "data.resident=false", "data.workers=0", *FAST),
    ),
    Setting(
        "own",
        (
            *("data=custom", "data._target_=noisy.Noisy", "trust=true", "model=masked", "epochs=3", "batch_size=16"),
            *("data.workers=0", "checkpoint.every=3st", *FAST),
        ),
        _write_noisy,
    ),
    Setting(
        "cached",
        tuple(
            "data.cache=cache" if word == "data.cache=false" else word
            for word in (*photo_words(Path("{data}/photos")), "checkpoint.every=2st", *FAST)
        ),
    ),
    Setting("table", (*table_words(Path("{data}/people.csv")), "checkpoint.every=3st", *FAST)),
    Setting(
        "plateau",
        ("data=diabetes", "model=mlp", "schedule=plateau", "patience=3", "epochs=8", "checkpoint.every=5st", *FAST),
    ),
    Setting("sweep", (*SWEEP, "optim.lr=1e-3,1e-1", "seed=0,1", "epochs=3")),
    Setting("halving", (*SWEEP, "optim.lr=1e-4,1e-3,1e-2,1e-1", "epochs=4", "sweep.halving.factor=2")),
    Setting(
        "stack",
        (*SWEEP, "optim.lr=1e-3,1e-2,1e-1", "epochs=4", "sweep.stack=true", "precision=float64", "test=false"),
        exact=False,
    ),
    Setting(
        "folds",
        (
            *SWEEP,
            "data.folds=3",
            "data.fold=range(3)",
            "optim.lr=${loguniform:1e-3,1e-1}",
            "trial=0,1",
            "epochs=2",
            "test=false",
        ),
    ),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}
RUNS = tuple(setting for setting in SETTINGS if not setting.is_sweep)
PAGED = tuple(setting for setting in RUNS if "plots=true" in setting.words)
SWEEPS = tuple(setting for setting in SETTINGS if setting.is_sweep)
# Settings that end alike whichever job fails at first: no winner is tested and no job pruned without it.
FORGIVING = (*RUNS, BY_NAME["folds"], BY_NAME["stack"])
