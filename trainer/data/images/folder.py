"""Folders of images: listed, decoded once, and read from where they were decoded to."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.data.images.cache import CacheKey, default_folder, obtain
from trainer.data.images.decode import (
    DIGEST_BYTES,
    METHODS,
    BadImage,
    DecodeResult,
    ResizeSpec,
    SizeMismatch,
    decode,
    probe,
)
from trainer.data.images.listing import Listing, list_images, readable
from trainer.data.images.pool import Progress, decode_all
from trainer.data.source import Samples, Source
from trainer.errors import UserError, show

NAMED = 10  # bad files that are told by name before training; the others are counted
DISK_SHARE, MEMORY_SHARE = 0.5, 0.125  # of the free disk and of all memory, that decoded images may take unasked
OWN_CACHE = ("auto", "true")


@dataclass
class Decoded:
    """All images of a folder after one pass over them.

    Attributes:
        shape: [H, W, 3] of each.
        found: their digests, and the bad ones.
        rows: [N, H, W, 3]; None where they are decoded again whenever they are asked for.
        notes: for the header.
    """

    shape: tuple[int, ...]
    found: DecodeResult
    rows: np.ndarray | None
    notes: list[str]


class DecodedImages(Samples):
    """Some rows of a store or an array; uint8 [3, H, W] each, channels last in memory."""

    def __init__(self, rows: np.ndarray, positions: np.ndarray, targets: Tensor, digest: bytes) -> None:
        self.rows, self.positions, self.targets, self.digest = rows, positions, targets, digest

    def take(self, indices: Tensor) -> Tensor:
        chosen = np.take(self.rows, self.positions[indices.numpy()], axis=0)
        return torch.from_numpy(chosen).permute(0, 3, 1, 2)

    def input(self, index: int) -> Tensor:
        return self.take(torch.tensor([index]))[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices)
        return self.take(chosen), self.targets[chosen]

    def fingerprint(self) -> bytes:
        return self.digest

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes that are not forked: where the rows are, not all of them."""
        rows = self.rows
        return self.__dict__ | ({"rows": (rows.filename, rows.shape)} if isinstance(rows, np.memmap) else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self.rows, tuple):
            path, shape = self.rows
            self.rows = np.memmap(path, np.uint8, "r", shape=shape)


class ImageFiles(Samples):
    """Image files that are decoded whenever they are asked for."""

    def __init__(self, paths: list[str], geometry: ResizeSpec, targets: Tensor, digest: bytes) -> None:
        self.paths, self.geometry, self.targets, self.digest = paths, geometry, targets, digest

    def input(self, index: int) -> Tensor:
        try:
            pixels = decode(self.paths[index], self.geometry)
        except BadImage as error:
            raise UserError(f"{readable(self.paths[index])}: {error}. It was readable when the run began.") from error
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)

    def fingerprint(self) -> bytes:
        return self.digest


def image_folder(
    root: str,
    size: int | None = None,
    resize: int | None = None,
    interpolation: str | None = None,
    classes: list[str] | None = None,
    on_bad_image: str = "error",
    cache: str = "auto",
    progress: Progress | None = None,
) -> Source:
    """The images below `root`, a folder per class.

    Args:
        size: images come out `size` x `size`; None leaves them, and all must be equal.
        resize: the shorter side is brought to this first and the middle cut out; None squashes.
        interpolation: bilinear or bicubic; None is bilinear.
        classes: only these, in this order.
        on_bad_image: `error`, or `skip` to train without files that cannot be used.
        cache: where decoded images are kept: `auto` in the user's cache folder if the disk has room, `true` there in
            any case, `false` in memory, or a folder. What does not fit in memory then is decoded again every epoch.
        progress: is told how far decoding is.

    Raises:
        UserError: a folder or a file that cannot be used, or an argument out of range.
    """
    _check(size, resize, interpolation, classes, on_bad_image, cache)
    wanted = None if classes is None else tuple(show(name) for name in classes)
    listing = list_images(root, wanted)
    geometry = ResizeSpec(size, resize, interpolation or "bilinear")
    paths = [path for part in listing.parts.values() for path, _ in part]
    recipe = CacheKey.of(listing.root, paths, geometry, wanted)
    decoded = _decoded(recipe, show(cache), root, progress or _nobody)
    skipped = _judged(decoded.found, listing, root, on_bad_image)
    notes = listing.notes + decoded.notes
    if skipped:
        notes.append(f"left out: {_images(len(skipped))} that cannot be used; results.json names them")
    return Source(_samples(decoded, listing, recipe, root), listing.classes, notes=notes, skipped=skipped)


def _nobody(what: str, done: int, total: int) -> None:
    pass


def _check(size: Any, resize: Any, interpolation: Any, classes: Any, on_bad_image: Any, cache: Any) -> None:
    for name, pixels in (("size", size), ("resize", resize)):
        if pixels is not None and (not isinstance(pixels, int) or isinstance(pixels, bool) or pixels < 1):
            raise UserError(f"data.{name}={show(pixels)}: expected a number of pixels from 1.")
    if resize is not None and (size is None or size > resize):
        raise UserError(
            f"data.resize={resize}: the shorter side is brought to it, and the middle of data.size={show(size)} cut "
            f"out. Give a data.size up to {resize}."
        )
    if interpolation not in (None, *METHODS):
        raise UserError(f"data.interpolation={show(interpolation)}: expected {' or '.join(METHODS)}.")
    if classes is not None and not isinstance(classes, (list, tuple)):
        raise UserError(f"data.classes={show(classes)}: expected a list of class folders, such as [cat,dog].")
    if on_bad_image not in ("error", "skip"):
        raise UserError(f"data.on_bad_image={show(on_bad_image)}: expected error or skip.")
    if not isinstance(cache, (str, bool)) or cache == "":
        raise UserError(f"data.cache={show(cache)}: expected auto, true, false or a folder.")


def _decoded(recipe: CacheKey, cache: str, root: str, progress: Progress) -> Decoded:
    """Decodes all images, or finds them decoded."""
    shape = _shape(recipe)
    notes: list[str] = []
    needed = len(recipe.files) * math.prod(shape)
    try:
        if cache != "false":
            try:
                folder = default_folder() if cache in OWN_CACHE else Path(cache)
                store = obtain(recipe, shape, folder, progress, DISK_SHARE if cache == "auto" else 1.0)
                return Decoded(shape, store.found, store.rows, notes)
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                reason = f"decoded images ({needed / 1e9:.1f} GB) cannot be kept: {where}{error.strerror or error}"
                if cache != "auto":
                    raise UserError(f"data.cache={cache}: {reason}. Name a folder, or use data.cache=false.") from error
                notes.append(reason)
        rows = np.empty((len(recipe.files), *shape), np.uint8) if needed <= MEMORY_SHARE * _memory() else None
        if rows is None:
            notes.append("decoded images are not kept: files are decoded whenever they are read")
        return Decoded(shape, decode_all(recipe.paths, shape, recipe.geometry, rows, progress), rows, notes)
    except SizeMismatch as error:
        raise UserError(
            f"{readable(os.path.join(root, recipe.files[error.row][0]))}: {error} pixels, where the first image has "
            f"{shape[1]}x{shape[0]}. Bring all to one size with data.size=N."
        ) from error


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _shape(recipe: CacheKey) -> tuple[int, ...]:
    """[H, W, 3] of the images, told by the first one that can be read."""
    if recipe.geometry.size is not None:
        return (recipe.geometry.size, recipe.geometry.size, 3)
    probes = (probe(path, recipe.geometry) for path in recipe.paths)
    return next((pixels.shape for pixels in probes if pixels is not None), (1, 1, 3))


def _judged(found: DecodeResult, listing: Listing, root: str, on_bad_image: str) -> list[dict[str, str]]:
    """The files that are skipped.

    Raises:
        UserError: there are bad ones, and none may be skipped.
    """
    files = [file for part in listing.parts.values() for file in part]
    skipped = []
    for row, reason in found.problems:
        path, label = files[row]
        shown = readable(os.path.join(root, path))
        skipped.append({"path": shown, "class": listing.classes[label], "reason": reason})
    if skipped and on_bad_image == "error":
        raise UserError(
            *(f"{bad['path']} (class {bad['class']}): {bad['reason']}." for bad in skipped[:NAMED]),
            f"{len(skipped):,} of {_images(len(files))} cannot be used. data.on_bad_image=skip trains without them.",
        )
    return skipped


def _samples(decoded: Decoded, listing: Listing, recipe: CacheKey, root: str) -> dict[str, Samples]:
    """The good images of each part.

    Raises:
        UserError: a class without any.
    """
    digests = np.frombuffer(decoded.found.digests, np.uint8).reshape(-1, DIGEST_BYTES)
    bad = {row for row, _ in decoded.found.problems}
    paths, first = recipe.paths, 0
    parts: dict[str, Samples] = {}
    for part, files in listing.parts.items():
        positions = np.array([first + n for n in range(len(files)) if first + n not in bad], dtype=np.int64)
        targets = torch.tensor([label for n, (_, label) in enumerate(files) if first + n not in bad], dtype=torch.int64)
        first += len(files)
        counts = torch.bincount(targets, minlength=len(listing.classes))
        for name, count in zip(listing.classes, counts.tolist(), strict=True):
            if count == 0:
                raise UserError(f"data.root={root}: in the {part} part no image of the class {name} can be used.")
        digest = blake2b(str(decoded.shape).encode(), digest_size=DIGEST_BYTES)
        digest.update(digests[positions].tobytes() + targets.numpy().tobytes())
        if decoded.rows is not None:
            parts[part] = DecodedImages(decoded.rows, positions, targets, digest.digest())
        else:
            parts[part] = ImageFiles([paths[n] for n in positions], recipe.geometry, targets, digest.digest())
    return parts


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"
