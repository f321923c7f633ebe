"""Data sets by name: the bundled digits and four of torchvision's."""

from __future__ import annotations

from importlib.resources import files
from urllib.error import URLError

import numpy as np
import torch

from trainer.data.samples import Arrays, Samples
from trainer.data.source import Source
from trainer.errors import Problem, UserError


def digits() -> Source:
    """Load 1,797 handwritten digits (UCI, as in scikit-learn): uint8 images [N, 1, 8, 8] of ten classes.

    The file's values from 0 to 16 are multiplied by 15, so that they span a byte like those of other images.
    """
    with files("trainer.data").joinpath("bundled/digits.npz").open("rb") as file, np.load(file) as arrays:
        images, targets = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["targets"])
    return Source({"train": Arrays(images[:, None] * 15, targets)}, tuple("0123456789"))


def torchvision_dataset(root: str, dataset: str) -> Source:
    """Load MNIST, FashionMNIST, CIFAR10 or CIFAR100 from below `root`, where missing files are downloaded.

    Raises:
        UserError: another data set, or files that are missing and cannot be downloaded.
    """
    from torchvision import datasets

    supported = ("MNIST", "FashionMNIST", "CIFAR10", "CIFAR100")
    if dataset not in supported:
        raise UserError(Problem("data.dataset", f"expected one of {', '.join(supported)}", given=dataset))
    splits: dict[str, Samples] = {}
    for name in ("train", "test"):
        try:
            loaded = getattr(datasets, dataset)(root, train=name == "train", download=True)
        except (URLError, RuntimeError, OSError) as error:
            reason = f"{dataset} is not in this folder and could not be downloaded ({_reason(error)})"
            advice = "Name the folder that holds it with data.root=DIR, or train offline with data=digits."
            raise UserError(Problem("data.root", reason, given=root, advice=advice)) from error
        images = torch.as_tensor(loaded.data)
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
        splits[name] = Arrays(images, torch.as_tensor(loaded.targets))
    return Source(splits, tuple(str(name).partition(" - ")[0] for name in loaded.classes))  # MNIST has "0 - zero"


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(":") if str(error) else type(error).__name__
