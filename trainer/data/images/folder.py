"""A folder of images as a data source: listed, decoded once, and read from where the decoded images are."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.data.images.cache import default_folder, obtain
from trainer.data.images.cache_key import CacheKey
from trainer.data.images.decode import DIGEST_BYTES, METHODS, DecodeResult, ResizeSpec, SizeMismatch, try_decode
from trainer.data.images.listing import Listing, list_images, readable
from trainer.data.images.pool import Progress, decode_all
from trainer.data.images.rows import CachedRows
from trainer.data.images.samples import CHECK, CachedImages, DecodedImages, ImageFiles, OriginalFiles
from trainer.data.samples import Samples
from trainer.data.source import Source
from trainer.errors import Problem, UserError, show

MAX_NAMED = 10  # bad files that are listed by name; the others are only counted
# Default limits on decoded images: shares of the free disk and of all memory.
DISK_SHARE, MEMORY_SHARE = 0.5, 0.125
CACHE_WORDS = {"auto": None, "true": True, "false": False}


@dataclass
class ImageSet:
    """The decoded images of a folder.

    Attributes:
        shape: [H, W, 3] of each.
        result: digests of the images, and the files that cannot be used.
        rows: uint8 [N, H, W, 3] in memory or in a cache file; None if files are decoded whenever they are read.
        notes: sentences for the header.
    """

    shape: tuple[int, ...]
    result: DecodeResult
    rows: np.ndarray | CachedRows | None
    notes: list[str]


def image_folder(
    root: str,
    size: int | None = None,
    resize: int | None = None,
    interpolation: str | None = None,
    classes: list[str] | None = None,
    on_bad_image: str = "error",
    cache: str | bool = "auto",
    progress: Progress | None = None,
) -> Source:
    """Load the images below `root`, which has a folder per class, or a folder per split with a folder per class.

    Args:
        size: height and width of the images; None keeps them, and all must be of equal size.
        resize: the shorter side is resized to this length and the centre cropped; None squashes the image.
        interpolation: `bilinear` (the default) or `bicubic`.
        classes: load only these, in this order.
        on_bad_image: `error`, or `skip` to leave out files that cannot be used.
        cache: where decoded images are kept: `auto` in the user's cache folder if the disk has room, `true` there in
            any case, `false` in memory, or a folder. Images that do not fit in memory are decoded again every epoch.
        progress: called while images are decoded.

    Raises:
        UserError: a folder or a file that cannot be used, or an argument out of range.
    """
    _check_sizes(size, resize, interpolation)
    _check_choices(classes, on_bad_image)
    selected = None if classes is None else tuple(show(name) for name in classes)
    listing = list_images(root, selected)
    spec = ResizeSpec(size, resize, interpolation or "bilinear")
    key = CacheKey.of(listing.root, [path for path, _ in listing.files], spec, selected)
    images = _decode(key, cache_of(cache), root, progress or _no_progress)
    skipped = _skipped(images.result, listing, root, on_bad_image)
    notes = listing.notes + images.notes
    if skipped:
        notes.append(f"left out: {_count(len(skipped))} that cannot be used; results.json names them")
    return Source(_samples(images, listing, key, root), listing.classes, notes=notes, skipped=skipped)


def _no_progress(activity: str, done: int, total: int) -> None:
    pass


def _check_sizes(size: Any, resize: Any, interpolation: Any) -> None:
    for name, pixels in (("size", size), ("resize", resize)):
        if pixels is not None and (not isinstance(pixels, int) or isinstance(pixels, bool) or pixels < 1):
            raise UserError(Problem(f"data.{name}", "expected a number of pixels from 1", given=show(pixels)))
    if resize is not None and (size is None or size > resize):
        reason = f"the shorter side is resized to it, and the central data.size={show(size)} pixels are cropped"
        raise UserError(Problem("data.resize", reason, given=show(resize), advice=f"Give a data.size up to {resize}."))
    if interpolation not in (None, *METHODS):
        raise UserError(Problem("data.interpolation", f"expected {' or '.join(METHODS)}", given=show(interpolation)))


def cache_of(value: Any) -> bool | Path | None:
    """Return the value of `data.cache`: None for `auto`, true, false, or the path of a folder.

    Raises:
        UserError: it is none of them.
    """
    word = show(value)
    if word in CACHE_WORDS:
        return CACHE_WORDS[word]
    if not isinstance(value, str) or not value:
        raise UserError(Problem("data.cache", "expected auto, true, false or a folder", given=word))
    return Path(value)


def _check_choices(classes: Any, on_bad_image: Any) -> None:
    if classes is not None and not isinstance(classes, (list, tuple)):
        reason = "expected a list of class folders, such as [cat,dog]"
        raise UserError(Problem("data.classes", reason, given=show(classes)))
    if on_bad_image not in ("error", "skip"):
        raise UserError(Problem("data.on_bad_image", "expected error or skip", given=show(on_bad_image)))


def _decode(key: CacheKey, cache: bool | Path | None, root: str, progress: Progress) -> ImageSet:
    """Decode all images, or find them in the cache; None allows to do without it."""
    shape = _shape(key)
    notes: list[str] = []
    num_bytes = len(key.files) * math.prod(shape)
    try:
        if cache is not False:
            try:
                folder = cache if isinstance(cache, Path) else default_folder()
                cached = obtain(key, shape, folder, progress, DISK_SHARE if cache is None else 1.0)
                return ImageSet(shape, cached.result, cached.rows, notes)
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                reason = f"decoded images ({num_bytes / 1e9:.1f} GB) cannot be cached: {where}{error.strerror or error}"
                if cache is not None:
                    advice = "Name a folder, or use data.cache=false."
                    raise UserError(Problem("data.cache", reason, given=show(cache), advice=advice)) from error
                notes.append(reason)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        rows = np.empty((len(key.files), *shape), np.uint8) if num_bytes <= MEMORY_SHARE * memory else None
        if rows is None:
            notes.append("decoded images are not cached: files are decoded whenever they are read")
        return ImageSet(shape, decode_all(key.paths, shape, key.spec, rows, progress), rows, notes)
    except SizeMismatch as error:
        path = readable(os.path.join(root, key.files[error.row][0]))
        reason = f"{error} pixels, where the first image has {shape[1]}x{shape[0]}"
        advice = "Bring all to one size with data.size=N."
        raise UserError(Problem(path, reason, advice=advice, check="shapes")) from error


def _shape(key: CacheKey) -> tuple[int, ...]:
    """Return the shape [H, W, 3] of the images: that of the first one that can be read."""
    if key.spec.size is not None:
        return (key.spec.size, key.spec.size, 3)
    attempts = (try_decode(path, key.spec) for path in key.paths)
    return next((pixels.shape for pixels in attempts if pixels is not None), (1, 1, 3))


def _skipped(result: DecodeResult, listing: Listing, root: str, on_bad_image: str) -> list[dict[str, str]]:
    """Return path, class and reason of the files to leave out; refuse them if `on_bad_image` is `error`.

    The paths are relative to `root`, which may come from the environment and is then written to no file.
    """
    files, skipped = listing.files, []
    for row, reason in result.problems:
        path, label = files[row]
        skipped.append({"path": readable(path), "class": listing.classes[label], "reason": reason})
    if skipped and on_bad_image == "error":
        total = f"{len(skipped):,} of {_count(len(files))} cannot be used"
        raise UserError(
            *(
                Problem(
                    f"{os.path.join(readable(root), bad['path'])} (class {bad['class']})", bad["reason"], check=CHECK
                )
                for bad in skipped[:MAX_NAMED]
            ),
            Problem("", total, advice="data.on_bad_image=skip trains without them.", check=CHECK),
        )
    return skipped


def _samples(images: ImageSet, listing: Listing, key: CacheKey, root: str) -> dict[str, Samples]:
    """Return the usable images of each split; refuse a class without any."""
    digests = np.frombuffer(images.result.digests, np.uint8).reshape(-1, DIGEST_BYTES)
    bad = {row for row, _ in images.result.problems}
    files = OriginalFiles(key, images.shape, images.result.digests)
    first = 0
    splits: dict[str, Samples] = {}
    for split, listed in listing.splits.items():
        usable = [n for n in range(len(listed)) if first + n not in bad]
        positions = np.array(usable, dtype=np.int64) + first
        targets = torch.tensor([listed[n][1] for n in usable], dtype=torch.int64)
        first += len(listed)
        counts = torch.bincount(targets, minlength=len(listing.classes))
        for name, count in zip(listing.classes, counts.tolist(), strict=True):
            if count == 0:
                reason = f"in the {split} split no image of the class {name} can be used"
                raise UserError(Problem("data.root", reason, given=root, check=CHECK))
        digest = blake2b(str(images.shape).encode(), digest_size=DIGEST_BYTES)
        digest.update(digests[positions].tobytes() + targets.numpy().tobytes())
        match images.rows:
            case None:
                splits[split] = ImageFiles(files, positions, targets, digest.digest())
            case CachedRows():
                splits[split] = CachedImages(images.rows, files, positions, targets, digest.digest())
            case _:
                splits[split] = DecodedImages(images.rows, positions, targets, digest.digest())
    return splits


def _count(number: int) -> str:
    return f"{number:,} image{'' if number == 1 else 's'}"
