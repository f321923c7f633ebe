"""Decode image files, in this process or in processes of their own.

Imports neither torch nor this package, so that such a process starts at once. `python -P decode.py` runs `serve`.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

DIGEST_BYTES = 16
METHODS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Pillow reads no more than the header of these, or runs another program: Ghostscript would execute an EPS file.
UNSUPPORTED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}


class BadImage(ValueError):
    """An image that cannot be used; the text is a clause that says why, without the file's name."""


class SizeMismatch(ValueError):
    """An image of another size than the first one; the text is its size, `row` its number."""

    def __init__(self, row: int, size: str) -> None:
        super().__init__(size)
        self.row = row


@dataclass(frozen=True)
class ResizeSpec:
    """The resizing of images while they are decoded.

    Attributes:
        size: height and width of the result; None keeps the size of the image.
        resize: the shorter side is brought to this length and the central `size` x `size` pixels are cut out; None
            squashes the image to `size` x `size`.
        interpolation: a key of METHODS.
    """

    size: int | None = None
    resize: int | None = None
    interpolation: str = "bilinear"


def suffixes() -> set[str]:
    """Return the suffixes of supported image files, in lower case and with the dot."""
    formats = Image.registered_extensions()
    return {suffix for suffix, name in formats.items() if name in Image.OPEN and name not in UNSUPPORTED}


def decode(path: str | Path, spec: ResizeSpec) -> np.ndarray:
    """Decode an image file to uint8 [H, W, 3] RGB.

    The first frame is taken, rotated as its EXIF data says, with transparent pixels on white. Of 16 bits per channel
    the upper 8 are kept, as Pillow does for colour.

    Raises:
        BadImage: the file cannot be used, for whatever reason.
    """
    return np.asarray(_resized(_read(path), spec))


def from_image(image: Image.Image, spec: ResizeSpec) -> np.ndarray:
    """Convert an opened image, which is not changed, to uint8 [H, W, 3]; see `decode`.

    Raises:
        BadImage: the image cannot be used.
    """
    _check_header(image)
    return np.asarray(_resized(_to_rgb(ImageOps.exif_transpose(image)), spec))


def try_decode(path: str, spec: ResizeSpec) -> np.ndarray | None:
    """Decode an image file without Pillow's warnings; return None if it cannot be used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return decode(path, spec)
        except BadImage:
            return None


def _read(path: str | Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            _check_header(image)
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except BadImage:
        raise
    except UnidentifiedImageError:
        if not os.path.getsize(path):
            raise BadImage("not a readable image (the file is empty)") from None
        raise BadImage("not a readable image (no format that Pillow knows)") from None
    except OSError as error:
        raise BadImage(f"not a readable image ({error.strerror or error})") from error
    except Exception as error:  # Pillow's plugins raise nearly anything for damaged files
        raise BadImage(f"not a readable image ({type(error).__name__}: {error})") from error


def _check_header(image: Image.Image) -> None:
    _check_pixels(image.size, image.size, "")
    if image.format in UNSUPPORTED:
        raise BadImage(f"the format {image.format} is not supported")
    if image.mode in ("I", "F"):
        raise BadImage(f"32 bits per channel (mode {image.mode}) of unknown range; convert it to 8 bits")


def _check_pixels(size: tuple[int, int], result: tuple[int, int], how: str) -> None:
    limit = Image.MAX_IMAGE_PIXELS  # Pillow itself only warns above it, and refuses from twice as many on
    if limit and result[0] * result[1] > limit:
        raise BadImage(f"{size[0]}x{size[1]} pixels are more than the {limit:,} accepted{how}")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        if 0 < values.max() < 4096:
            raise BadImage(f"16 bits per channel with values up to {values.max()}: almost black as 8 bits")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def _resized(image: Image.Image, spec: ResizeSpec) -> Image.Image:
    """Return the image as torchvision's presets resize and crop it, pixel for pixel."""
    size, resize = spec.size, spec.resize
    if size is None:
        return image
    width, height = (size, size) if resize is None else _scaled(*image.size, resize)
    if image.size != (width, height):
        _check_pixels(image.size, (width, height), f", resized to {width}x{height}")
        image = image.resize((width, height), METHODS[spec.interpolation])
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size)) if image.size != (size, size) else image


def _scaled(width: int, height: int, shorter: int) -> tuple[int, int]:
    return (shorter, int(shorter * height / width)) if width <= height else (int(shorter * width / height), shorter)


@dataclass
class DecodeResult:
    """Digests of decoded files, DIGEST_BYTES each (zeros if unusable), and (number, reason) of the unusable ones."""

    digests: bytes
    problems: list[tuple[int, str]]


Sink = Callable[[int, np.ndarray], None]  # takes the number of a row and its pixels


def decode_rows(paths: list[str], first: int, shape: tuple[int, ...], spec: ResizeSpec, sink: Sink) -> DecodeResult:
    """Decode files in turn and pass the pixels of each to `sink`.

    The first file belongs to the row `first`; `shape` is that of a row, [H, W, 3].

    Raises:
        SizeMismatch: an image of another shape.
    """
    digests, problems = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a file is either used or refused with a reason
        for number, path in enumerate(paths):
            digest = bytes(DIGEST_BYTES)
            try:
                pixels = np.ascontiguousarray(decode(path, spec))
                if pixels.shape != shape:
                    raise SizeMismatch(first + number, f"{pixels.shape[1]}x{pixels.shape[0]}")
                digest = blake2b(pixels.data, digest_size=DIGEST_BYTES).digest()
                sink(first + number, pixels)
            except BadImage as error:
                problems.append((number, str(error)))
            digests.append(digest)
    return DecodeResult(b"".join(digests), problems)


def file_sink(file: int) -> Sink:
    """Return a sink that writes to a file: on a full disk, a memory map would end the process by a signal."""

    def write(row: int, pixels: np.ndarray) -> None:
        data, at = pixels.data.cast("B"), row * pixels.nbytes
        while data:
            written = os.pwrite(file, data, at)
            data, at = data[written:], at + written

    return write


def serve(lines: Iterator[str], answers: IO[bytes]) -> None:
    """Decode files until there are no more lines.

    The first line is a JSON object with `shape`, `spec` (a ResizeSpec), `path` of the file that takes the rows or
    null, and `send`: whether the pixels of good files follow each answer instead. Each further line is [first row,
    paths]; the answer is a line with the fields of DecodeResult, or {"mismatch": ...} or {"error": ...}.
    """
    settings = json.loads(next(lines))
    spec, shape = ResizeSpec(**settings["spec"]), tuple(settings["shape"])
    sent: list[np.ndarray] = []
    write = file_sink(os.open(settings["path"], os.O_WRONLY | os.O_NOFOLLOW)) if settings["path"] else None

    def sink(row: int, pixels: np.ndarray) -> None:
        if write:
            write(row, pixels)
        elif settings["send"]:
            sent.append(pixels)

    answers.write(b"ready\n")
    answers.flush()
    for line in lines:
        first, paths = json.loads(line)
        try:
            result = decode_rows(paths, first, shape, spec, sink)
            answer: dict[str, object] = {"digests": result.digests.hex(), "problems": result.problems}
        except SizeMismatch as error:
            answer = {"mismatch": [error.row, str(error)]}
        except OSError as error:
            answer = {"error": error.strerror or str(error)}
        answers.write(json.dumps(answer).encode() + b"\n")
        for pixels in sent:
            answers.write(pixels.data)
        sent.clear()
        answers.flush()


if __name__ == "__main__":
    try:
        serve(iter(sys.stdin), sys.stdout.buffer)
    except BrokenPipeError:  # the parent process is gone
        os._exit(1)
