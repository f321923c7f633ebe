"""Finished runs that several tests look at, and folders of images to train on."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
from PIL import Image

from trainer import cli
from trainer.commands.train import run_train


def trained(folder: Path, *words: str) -> Path:
    """Runs `train` in `folder`, in this process and on one thread; returns the run's folder."""
    before = set(folder.glob("outputs/[0-9]*/*"))
    with contextlib.chdir(folder):
        code = cli.guarded(lambda: run_train(["threads=1", *words]))
    assert code == 0
    (new,) = set(folder.glob("outputs/[0-9]*/*")) - before
    return new.resolve()


def images(root: Path, parts: dict[str, dict[str, int]], size: int = 8, seed: int = 0) -> Path:
    """Makes a folder of PNG files: {part: {class: how many}}, each class of a colour of its own, no two alike."""
    generator = np.random.default_rng(seed)
    names = sorted({name for classes in parts.values() for name in classes})
    colours = {name: random.Random(name).choices(range(40, 216), k=3) for name in names}
    for part, classes in parts.items():
        for name, count in classes.items():
            folder = root / part / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                noise = generator.normal(0, 25, (size, size, 3))
                pixels = np.clip(np.array(colours[name]) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{part}{number:03}.png")
    return root
