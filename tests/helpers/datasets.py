"""Small datasets: folders of images with distinguishable classes, and tables."""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from trainer.data.dataset import Data, load
from trainer.data.samples import Arrays
from trainer.data.source import Source

CLASSES = ("ant", "bee", "cow")
LABELS = ("bird", "cat", "dog")
COLOURS = {"ant": (200, 60, 40), "bee": (60, 190, 60), "cow": (50, 60, 200)}


def write_images(
    root: Path,
    counts: Mapping[str, int],
    size: int | tuple[int, int] = 8,
    suffixes: Sequence[str] = ("png",),
    seed: int = 0,
) -> Path:
    """Write images of noise around the colour of their class, no two alike, and return `root`.

    Args:
        counts: the number of images of each folder below `root`, such as "train/ant"; its last name is the class.
        size: pixels of both sides, or a range from which each side is drawn.
        suffixes: formats, used in turn.
        seed: seed of the noise and the sizes.
    """
    draw = np.random.default_rng(seed)
    low, high = size if isinstance(size, tuple) else (size, size + 1)
    for place, count in counts.items():
        folder = root / place
        folder.mkdir(parents=True, exist_ok=True)
        colour = COLOURS.get(folder.name) or random.Random(folder.name).choices(range(40, 216), k=3)
        for number in range(count):
            shape = (*draw.integers(low, high, 2), 3)
            pixels = np.clip(draw.normal(colour, 60, shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:03}.{suffixes[number % len(suffixes)]}")
    return root


def write_photos(root: Path) -> Path:
    """Write 36 photographs to train on and 36 to test with, of three classes, several sizes and two formats."""
    counts = {f"{split}/{name}": 12 for split in ("train", "test") for name in CLASSES}
    return write_images(root, counts, size=(20, 40), suffixes=("jpg", "png"))


def write_visits(words: Sequence[str] = ("train", "val", "Test", "train", "")) -> None:
    """Write visits.csv: 5 rows for each of 40 patients, on days in another order than that of the file."""
    draw = np.random.default_rng(0)
    with open("visits.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "day", "part", "size", "ill"])
        for row, patient in enumerate(np.repeat(np.arange(40), 5).tolist()):
            day = np.datetime64("2024-01-01") + draw.integers(0, 300)
            part = words[row % len(words)]
            writer.writerow([f"p{patient}", day, part, f"{draw.normal():.4f}", draw.choice(["no", "yes"])])


def write_table(path: Path, rows: int = 160, seed: int = 0) -> Path:
    """Write a table of numbers, a category and missing values, with a class (a string) that depends on them."""
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


def write_pets(path: Path, rows: int = 160) -> Path:
    """Write a table with four columns to predict from, three labels in two forms, and two numbers."""
    draw = np.random.default_rng(0)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*"abcd", *LABELS, "labels", "height", "weight"])
        for _ in range(rows):
            x = draw.normal(size=4)
            has = (x[3] > x[0], x[0] + x[1] > 0.3, x[2] > 0.8)
            cells = [int(has[0]), "yes" if has[1] else "no", str(bool(has[2])).lower()]
            names = "|".join(name for name, one in zip(LABELS, has, strict=True) if one)
            numbers = [170 + 10 * x[0] + draw.normal(), 0.07 + 0.005 * x[1] + draw.normal() / 1000]
            writer.writerow([*x, *cells, names, *numbers])
    return path


def random_images(shape: tuple[int, ...], classes: int = 10) -> Data:
    """Return random uint8 images of this shape, ten samples per class."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (10 * classes, *shape), dtype=torch.uint8, generator=generator)
    source = Source({"train": Arrays(inputs, torch.arange(10 * classes) % classes)}, tuple(map(str, range(classes))))
    return load(source, valid_fraction=0.2, test_fraction=0.2, seed=0)
