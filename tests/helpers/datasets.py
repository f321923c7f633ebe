"""Small folders of photographs that can be told apart, and tables with all that a table may have."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from trainer.data.dataset import Data, load
from trainer.data.samples import Arrays
from trainer.data.source import Source

COLOURS = {"ant": (200, 60, 40), "bee": (60, 190, 60), "cow": (50, 60, 200)}


def write_photos(root: Path, per_class: int = 12, seed: int = 0, parts: tuple[str, ...] = ("train", "test")) -> Path:
    """Noise around a colour for each class, of several sizes and formats."""
    draw = np.random.default_rng(seed)
    for part in parts:
        for name, colour in COLOURS.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(per_class):
                size = (int(draw.integers(20, 40)), int(draw.integers(20, 40)), 3)
                pixels = np.clip(draw.normal(colour, 60, size), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02}.{'png' if number % 2 else 'jpg'}")
    return root


def write_table(path: Path, rows: int = 160, seed: int = 0) -> Path:
    """Numbers, a category, missing values; a class, its name a text, that depends on them."""
    draw = np.random.default_rng(seed)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["id", "height", "colour", "weight", "kind"])
        for number in range(rows):
            height, weight = draw.normal(170, 10), draw.normal(70, 9)
            colour = draw.choice(["red", "green", "blue"])
            kind = "big" if height / 10 + weight / 9 + (colour == "red") > 25 else "small"
            shown = "" if number % 17 == 3 else f"{weight:.3f}"
            writer.writerow([number, f"{height:.3f}", colour, shown, kind])
    return path


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


def random_images(shape: tuple[int, ...], classes: int = 10) -> Data:
    """Random bytes of this shape, ten samples a class."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (10 * classes, *shape), dtype=torch.uint8, generator=generator)
    source = Source({"train": Arrays(inputs, torch.arange(10 * classes) % classes)}, tuple(map(str, range(classes))))
    return load(source, valid_fraction=0.2, test_fraction=0.2, seed=0)
