"""Reading of pictures that the program drew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def pixels(path: Path) -> np.ndarray:
    """Return a picture as [H, W, 3]; it must be a PNG and show more than a background."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        array = np.asarray(image.convert("RGB"))
    background = array[0, 0]
    assert array.std() > 5
    assert (array != background).any(axis=2).mean() > 0.01
    return array
