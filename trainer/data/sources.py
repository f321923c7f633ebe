"""Data sets by name: the bundled digits and torchvision's classification sets."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import torch

from trainer.data import torchvision_sets
from trainer.data.images.options import ImageOptions
from trainer.data.images.pool import Progress
from trainer.data.images.source import no_progress
from trainer.data.samples import Arrays
from trainer.data.source import Source


def digits() -> Source:
    """Load 1,797 handwritten digits (UCI, as in scikit-learn): uint8 images [N, 1, 8, 8] of ten classes.

    The file's values from 0 to 16 are multiplied by 15, so that they span a byte like those of other images.
    """
    with files("trainer.data").joinpath("bundled/digits.npz").open("rb") as file, np.load(file) as arrays:
        images, targets = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["targets"])
    return Source({"train": Arrays(images[:, None] * 15, targets)}, tuple("0123456789"))


def torchvision_dataset(
    root: str,
    name: str,
    download: bool = False,
    size: int | list[int] | None = None,
    resize: int | list[int] | None = None,
    progress: Progress | None = None,
) -> Source:
    """Load one of torchvision's classification sets from below `root`.

    Args:
        name: of the set, such as `SVHN`; see `trainer.data.torchvision_sets.SETS`.
        download: fetch files that are missing; if not, no network is used.
        size: of the images of a set of image files, one number or height and width; None keeps it, if they are equal.
        resize: the shorter side is resized to this length first and the centre cropped; None squashes the image.
        progress: called while images are decoded.

    Raises:
        UserError: another set, files that are missing, or images that cannot be used.
    """
    spec = ImageOptions(size, resize).spec()
    return torchvision_sets.read(root, name, spec, progress or no_progress, download=download)
