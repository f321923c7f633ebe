"""Data sources that are one call: the bundled digits, and torchvision's data sets."""

from __future__ import annotations

from importlib.resources import files
from urllib.error import URLError

import numpy as np
import torch

from trainer.data.source import Arrays, Samples, Source
from trainer.errors import UserError


def digits() -> Source:
    """1,797 digits, uint8 [N, 1, 8, 8]; the file's 0 to 16 times 15, so that they span a byte like other images."""
    with files("trainer.data").joinpath("bundled/digits.npz").open("rb") as file, np.load(file) as arrays:
        images, targets = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["targets"])
    return Source({"train": Arrays(images[:, None] * 15, targets)}, tuple("0123456789"))


def torchvision_dataset(root: str, dataset: str) -> Source:
    """MNIST, FashionMNIST, CIFAR10 or CIFAR100 below `root`, downloaded there when absent.

    Raises:
        UserError: where the files are absent and cannot be downloaded.
    """
    from torchvision import datasets

    known = ("MNIST", "FashionMNIST", "CIFAR10", "CIFAR100")
    if dataset not in known:
        raise UserError(f"data.dataset={dataset}: expected one of {', '.join(known)}.")
    parts: dict[str, Samples] = {}
    for name in ("train", "test"):
        try:
            loaded = getattr(datasets, dataset)(root, train=name == "train", download=True)
        except (URLError, RuntimeError, OSError) as error:
            raise UserError(
                f"data.root={root}: {dataset} is not in this folder and could not be downloaded ({_reason(error)}). "
                "Name the folder that holds it with data.root=DIR, or train offline with data=digits."
            ) from error
        images = torch.as_tensor(loaded.data)
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
        parts[name] = Arrays(images, torch.as_tensor(loaded.targets))
    return Source(parts, tuple(str(name).partition(" - ")[0] for name in loaded.classes))  # MNIST's are "0 - zero"


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(":") if str(error) else type(error).__name__
