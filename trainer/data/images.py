"""Folders of images: a folder per class, in `train/`, `valid/` and `test/` or all in one."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from trainer.data.source import Samples, Source
from trainer.errors import UserError

PART_NAMES = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}


class ImageFiles(Samples):
    """Image files that are decoded when asked for: uint8 [3, size, size], or as large as they are without `size`."""

    def __init__(self, paths: list[Path], targets: list[int], size: int | None) -> None:
        self.paths, self.size = paths, size
        self.targets = torch.tensor(targets, dtype=torch.int64)
        self.shape = None if size else tuple(decode(paths[0], None).shape)

    def input(self, index: int) -> Tensor:
        image = decode(self.paths[index], self.size)
        if self.shape and tuple(image.shape) != self.shape:
            raise UserError(
                f"{self.paths[index]}: {image.shape[2]}x{image.shape[1]} pixels, where the first image has "
                f"{self.shape[2]}x{self.shape[1]}. Bring all to one size with data.size=N."
            )
        return image

    def fingerprint(self) -> bytes:
        digest = blake2b(str(self.size).encode(), digest_size=16)
        for path, target in zip(self.paths, self.targets.tolist(), strict=True):
            stat = path.stat()
            digest.update(f"{path.name}/{target}/{stat.st_size}/{stat.st_mtime_ns}\n".encode())
        return digest.digest()


def decode(path: Path, size: int | None) -> Tensor:
    """One image file as uint8 [3, H, W], upright, resized bilinearly to `size` x `size` if given.

    Raises:
        UserError: where the file is no image, is damaged, has too many pixels or more than 8 bits a channel.
    """
    try:
        with Image.open(path) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit and image.width * image.height > limit:
                raise UserError(f"{path}: {image.width}x{image.height} pixels are more than the {limit:,} accepted.")
            if image.mode.startswith(("I", "F")):
                raise UserError(f"{path}: 16 or 32 bits a channel ({image.mode}); expected 8. Convert it first.")
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} (class {path.parent.name}): not a readable image ({error}).") from error
    if size and upright.size != (size, size):
        upright = upright.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(upright).transpose(2, 0, 1).copy())


def image_folder(root: str, size: int | None = None) -> Source:
    """The images below `root`; classes are the folders' names in alphabetical order.

    Raises:
        UserError: no such folder, no classes, an empty class, or parts whose classes differ.
    """
    top = Path(root)
    if not top.is_dir():
        raise UserError(f"data.root={root}: no such folder.")
    if size is not None and (not isinstance(size, int) or size < 1):
        raise UserError(f"data.size={size}: expected a number of pixels from 1.")
    twice = Counter(PART_NAMES[f.name] for f in _folders(top) if f.name in PART_NAMES)
    if any(count > 1 for count in twice.values()):
        raise UserError(f"data.root={root}: more than one folder for the validation part; keep one of val and valid.")
    folders = {PART_NAMES[f.name]: f for f in _folders(top) if f.name in PART_NAMES}
    if folders and "train" not in folders:
        raise UserError(
            f"data.root={root}: there is {', '.join(f.name for f in folders.values())} but no train folder."
        )
    found = {part: _class_files(folder) for part, folder in (folders or {"train": top}).items()}
    classes = tuple(found["train"])
    for part, files in found.items():
        if tuple(files) != classes:
            odd = sorted(set(files) ^ set(classes))
            raise UserError(
                f"{folders[part]}: its classes are not those of {folders['train']}: {', '.join(odd)} differ."
            )
    parts: dict[str, Samples] = {}
    for part, files in found.items():
        pairs = [(path, label) for label, name in enumerate(classes) for path in files[name]]
        parts[part] = ImageFiles([path for path, _ in pairs], [label for _, label in pairs], size)
    return Source(parts, classes)


def _folders(top: Path) -> list[Path]:
    return sorted(entry for entry in top.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _class_files(folder: Path) -> dict[str, list[Path]]:
    known = set(Image.registered_extensions())
    found = {}
    for class_folder in _folders(folder):
        files = [f for f in sorted(class_folder.iterdir()) if f.suffix.lower() in known and not f.name.startswith(".")]
        if not files:
            raise UserError(f"{class_folder}: no images in this class folder.")
        found[class_folder.name] = files
    if len(found) < 2:
        raise UserError(
            f"{folder}: {len(found)} class folders; expected a folder of images for each of two classes or more."
        )
    return found
