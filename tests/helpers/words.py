"""Overrides that several tests use."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
import torchvision


def last_of_each_key(words: Iterable[str]) -> list[str]:
    """Return words without those whose key a later one repeats, which the program refuses.

    So a test can append its own values to words that it shares with others.
    """
    kept: dict[str, str] = {}
    for word in words:
        key = word.partition("=")[0]
        kept.pop(key, None)
        kept[key] = word
    return list(kept.values())


def table_words(table: Path) -> tuple[str, ...]:
    return (
        "data=csv", f"data.path={table}", "data.target=kind", "data.drop=[id]", "data.missing=median",
        "model=mlp", "epochs=3", "batch_size=16",
    )  # fmt: skip


def photo_words(photos: Path) -> tuple[str, ...]:
    return (
        "data=image_folder", f"data.root={photos}", "data.size=24", "data.resize=26", "data.cache=false",
        "model=cnn", "epochs=2", "batch_size=8",
    )  # fmt: skip


def calibrated_words(name: str) -> list[str]:
    """Return overrides that choose a model of torchvision, for images of 32 pixels, with random weights from a file.

    Its BatchNorm statistics are those of noise; without them, activations vanish in the deep layers.
    """
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, num_classes=10)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    model(torch.randn(32, 3, 32, 32))
    path = Path(f"{name}.pt").resolve()
    torch.save(model.state_dict(), path)
    return ["model=torchvision", f"model.name={name}", "model.image_size=32", f"model.weights={path}"]
