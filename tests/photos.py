"""Small folders of photographs that can be told apart, and tables with all that a table may have."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

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
