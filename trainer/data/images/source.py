"""Listed image files as a data source: decoded once, and read from where the decoded images are."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainer.data.images.cache import default_folder, obtain
from trainer.data.images.cache_key import CacheKey
from trainer.data.images.decode import DIGEST_BYTES, try_decode
from trainer.data.images.listing import Listing, readable
from trainer.data.images.options import ImageOptions, cache_of
from trainer.data.images.pool import Progress, decode_all
from trainer.data.images.rows import CachedRows
from trainer.data.images.samples import CHECK, CachedImages, DecodedImages, ImageFiles, OriginalFiles
from trainer.data.images.serve import DecodeResult, SizeMismatch
from trainer.data.samples import Samples
from trainer.data.source import Source
from trainer.errors import Problem, UserError, show

MAX_NAMED = 10  # bad files that are listed by name; the others are only counted
# Default limits on decoded images: shares of the free disk and of all memory.
DISK_SHARE, MEMORY_SHARE = 0.5, 0.125


@dataclass
class ImageSet:
    """The decoded images of a listing.

    Attributes:
        shape: [H, W, C] of each.
        result: digests of the images, and the files that cannot be used.
        rows: uint8 [N, H, W, C] in memory or in a cache file; None if files are decoded whenever they are read.
        notes: sentences for the header.
    """

    shape: tuple[int, ...]
    result: DecodeResult
    rows: np.ndarray | CachedRows | None
    notes: list[str]


def load_images(listing: Listing, options: ImageOptions, progress: Progress | None) -> Source:
    """Decode the files of a listing, or find them in the cache.

    Args:
        progress: called while images are decoded.

    Raises:
        UserError: a file cannot be used, or an option is out of range.
    """
    cache, skips = cache_of(options.cache), options.skips()
    key = CacheKey.of(listing.root, [path for path, _ in listing.files], options.spec(), listing.selection)
    images = _decode(key, cache, listing.shown, progress or no_progress)
    skipped = _skipped(images.result, listing, skips=skips)
    notes = listing.notes + images.notes
    if skipped:
        notes.append(f"left out: {_count(len(skipped))} that cannot be used; results.json names them")
    samples, train = _samples(images, listing, key)
    return Source(
        samples,
        listing.classes,
        listing.task,
        notes=notes,
        skipped=skipped,
        unlabelled=listing.unlabelled,
        division=listing.division.select(train),
        targets=listing.targets,
    )


def no_progress(activity: str, done: int, total: int) -> None:
    """Report nothing."""


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
    """Return the shape [H, W, C] of the images: that of the first one that can be read."""
    if key.spec.shape is not None:
        return key.spec.shape
    attempts = (try_decode(path, key.spec) for path in key.paths)
    return next((pixels.shape for pixels in attempts if pixels is not None), (1, 1, key.spec.channels))


def _skipped(result: DecodeResult, listing: Listing, *, skips: bool) -> list[dict[str, str]]:
    """Return path, class and reason of the files to leave out; refuse them unless `skips`.

    The paths are relative to the listing's root, which may come from the environment and is then written to no file.
    """
    files = listing.files
    bad = [*listing.missing, *((*files[row], reason) for row, reason in result.problems)]
    if bad and not skips:
        problems = [
            Problem(listing.describe(path, target), reason, source=listing.place(path), check=CHECK)
            for path, target, reason in bad[:MAX_NAMED]
        ]
        total = f"{len(bad):,} of {_count(len(files) + len(listing.missing))} cannot be used"
        advice = "data.on_bad_image=skip trains without them."
        raise UserError(*problems, Problem("", total, advice=advice, check=CHECK))
    return [{"path": readable(path), "class": listing.name(target), "reason": reason} for path, target, reason in bad]


def _samples(images: ImageSet, listing: Listing, key: CacheKey) -> tuple[dict[str, Samples], Tensor]:
    """Return the usable images of each split, and the places of those to train on in the listing.

    A class that has lost all its images is refused.
    """
    digests = np.frombuffer(images.result.digests, np.uint8).reshape(-1, DIGEST_BYTES)
    bad = {row for row, _ in images.result.problems}
    files = OriginalFiles(key, images.shape, images.result.digests)
    first = 0
    splits: dict[str, Samples] = {}
    for split, listed in listing.splits.items():
        usable = [n for n in range(len(listed)) if first + n not in bad]
        positions = np.array(usable, dtype=np.int64) + first
        targets = torch.tensor([listed[n][1] for n in usable], dtype=torch.int64 if listing.classes else torch.float64)
        first += len(listed)
        if listing.classes and targets.ndim == 1 and (lost := {each for _, each in listed} - set(targets.tolist())):
            reason = f"in the {split} split no image of the class {listing.name(min(lost))} can be used"
            raise UserError(Problem("data.root", reason, given=listing.shown, check=CHECK))
        if not usable:
            reason = f"no image of the {split} split can be used"
            raise UserError(Problem("data.root", reason, given=listing.shown, check=CHECK))
        digest = blake2b(str(images.shape).encode(), digest_size=DIGEST_BYTES)
        digest.update(digests[positions].tobytes() + targets.numpy().tobytes())
        match images.rows:
            case None:
                splits[split] = ImageFiles(files, positions, targets, digest.digest())
            case CachedRows():
                splits[split] = CachedImages(images.rows, files, positions, targets, digest.digest())
            case _:
                splits[split] = DecodedImages(images.rows, positions, targets, digest.digest())
        places = np.arange(first, dtype=np.int64) if listing.places is None else np.array(listing.places)
        splits[split].row_numbers = torch.from_numpy(places[positions])
        splits[split].file_names = [readable(listed[n][0]) for n in usable]
    usable_of_train = [row for row in range(len(listing.splits["train"])) if row not in bad]
    return splits, torch.tensor(usable_of_train)


def _count(number: int) -> str:
    return f"{number:,} image{'' if number == 1 else 's'}"
