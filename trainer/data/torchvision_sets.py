"""The classification sets of torchvision: which there are, how their splits are named, and how they are read."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.data.arrays.inputs import Form, layout_of
from trainer.data.images.decode import DecodeSpec
from trainer.data.images.items import decode_items
from trainer.data.images.pool import Progress
from trainer.data.samples import Arrays, Samples
from trainer.data.source import Source
from trainer.errors import Problem, UserError, did_you_mean, out_of_memory


def _splits(**names: str) -> dict[str, dict[str, str]]:
    return {split: {"split": name} for split, name in names.items()}


BY_FLAG: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
EMNIST = ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")
# The arguments of each split, by the set's name; the part of a name after a hyphen is a variant.
SETS: dict[str, dict[str, dict[str, Any]]] = {
    **dict.fromkeys(("MNIST", "FashionMNIST", "KMNIST", "QMNIST", "CIFAR10", "CIFAR100", "USPS"), BY_FLAG),
    **{f"EMNIST-{name}": {s: {**flag, "split": name} for s, flag in BY_FLAG.items()} for name in EMNIST},
    **dict.fromkeys(("SVHN", "STL10", "GTSRB", "Food101", "StanfordCars", "FER2013", "LFWPeople"),
                    _splits(train="train", test="test")),
    **dict.fromkeys(("Flowers102", "DTD", "FGVCAircraft", "CLEVRClassification", "PCAM", "RenderedSST2"),
                    _splits(train="train", valid="val", test="test")),
    "Country211": _splits(train="train", valid="valid", test="test"),
    "OxfordIIITPet": _splits(train="trainval", test="test"),
    **dict.fromkeys(("Imagenette", "ImageNet"), _splits(train="train", valid="val")),
    "Places365": {"train": {"split": "train-standard", "small": True}, "valid": {"split": "val", "small": True}},
    **{name: {"train": {}} for name in ("EuroSAT", "Caltech101", "Caltech256", "SUN397", "SEMEION")},
}  # fmt: skip


def read(root: str, name: str, spec: DecodeSpec, progress: Progress, *, download: bool) -> Source:
    """Load a set from below `root`; see `trainer.data.sources.torchvision_dataset`.

    Raises:
        UserError: no such set, files that are missing, or images that cannot be used.
    """
    if name not in SETS:
        advice = did_you_mean(name, SETS)
        raise UserError(Problem("data.name", f"expected one of {', '.join(SETS)}", given=name, advice=advice))
    splits: dict[str, Samples] = {}
    for split, arguments in SETS[name].items():
        loaded = _open(root, name, arguments, download=download)
        if isinstance(getattr(loaded, "data", None), (np.ndarray, Tensor)):
            splits[split] = _in_memory(loaded)
        else:
            splits[split] = decode_items(loaded, name, spec, progress)
    return Source(splits, _class_names(loaded, splits))


def _open(root: str, name: str, arguments: Mapping[str, Any], *, download: bool) -> Any:
    """Return a split as torchvision reads it."""
    from torchvision import datasets

    factory = getattr(datasets, name.partition("-")[0])
    takes = inspect.signature(factory).parameters
    can_download = "download" in takes or ("kwargs" in takes and name != "ImageNet")
    try:
        if not download and not os.path.isdir(root):  # some sets would create it
            raise FileNotFoundError
        return factory(root, **arguments, **({"download": download} if can_download else {}))
    except ModuleNotFoundError as error:
        reason = f"{name} needs the library {error.name}"
        raise UserError(Problem("data.name", reason, given=name, command=f"pip install {error.name}")) from error
    except (RuntimeError, OSError, ValueError) as error:  # of which a URLError is one
        if out_of_memory(error):
            raise
        missed = (
            f"could not be downloaded ({_reason(error)})" if download and can_download else "nothing was downloaded"
        )
        advice = "Name the folder that holds it with data.root=DIR, or train offline with data=digits."
        if can_download and not download:
            advice = "Name the folder that holds it with data.root=DIR, or download it with data.download=true."
        reason = f"{name} is not in this folder and {missed}"
        raise UserError(Problem("data.root", reason, given=root, advice=advice)) from error


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(":") if str(error) else type(error).__name__


def _in_memory(loaded: Any) -> Arrays:
    """Return the samples of a set that torchvision holds as one array."""
    images = np.asarray(loaded.data)
    layout = layout_of(images.shape, images.dtype, "data")
    targets = torch.as_tensor(loaded.targets if hasattr(loaded, "targets") else loaded.labels)
    targets = targets[:, 0] if targets.ndim == 2 else targets  # QMNIST: the class, then who wrote it
    return Arrays(Form(layout, torch.uint8)(images), targets)


def _class_names(loaded: Any, splits: Mapping[str, Samples]) -> tuple[str, ...]:
    names = getattr(loaded, "classes", None) or getattr(loaded, "categories", None)
    if names is None:
        return tuple(map(str, range(1 + max(int(samples.targets.max()) for samples in splits.values()))))
    joined = (", ".join(name) if isinstance(name, (list, tuple)) else str(name) for name in names)
    return tuple(name.partition(" - ")[0] if name[:1].isdigit() else name for name in joined)  # MNIST has "0 - zero"
