"""Image files to pixels, here or in processes of their own; imports no torch, so that such a process starts at once.

`python -P decode.py` reads a line with settings and then lines with files, and answers each with a line: see `serve`.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

DIGEST_BYTES = 16
METHODS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Of these Pillow reads no more than the header, or only with another program: EPS would be run by Ghostscript.
UNREAD = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}


class BadImage(ValueError):
    """A file from which no pixels can be had; the text says why, after the file's name."""


class SizeMismatch(ValueError):
    """An image that is not of the size that all have; `row` is its number, the text its own size."""

    def __init__(self, row: int, size: str) -> None:
        super().__init__(size)
        self.row = row


@dataclass(frozen=True)
class ResizeSpec:
    """How large images come out.

    Attributes:
        size: height and width; None leaves images as they are.
        resize: the shorter side is brought to this and the middle `size` x `size` cut out; None squashes to `size`.
        interpolation: a key of METHODS.
    """

    size: int | None = None
    resize: int | None = None
    interpolation: str = "bilinear"


def suffixes() -> set[str]:
    """The endings of files that are taken for images, in lower case."""
    known = Image.registered_extensions()
    return {suffix for suffix, form in known.items() if form in Image.OPEN and form not in UNREAD}


def decode(path: str | Path, geometry: ResizeSpec) -> np.ndarray:
    """One image file as uint8 [H, W, 3]: the first frame, upright, what is transparent on white.

    Of 16 bits a channel the upper 8 are kept, as Pillow itself does for colour.

    Raises:
        BadImage: whatever it is that keeps the file from being used.
    """
    return np.asarray(_fitted(_read(path), geometry))


def from_image(image: Image.Image, geometry: ResizeSpec) -> np.ndarray:
    """As `decode`, of an image that Pillow has opened already, which stays as it is.

    Raises:
        BadImage: it cannot be used.
    """
    _refuse(image)
    return np.asarray(_fitted(_colours(ImageOps.exif_transpose(image)), geometry))


def probe(path: str, geometry: ResizeSpec) -> np.ndarray | None:
    """As `decode`, without Pillow's warnings; None for a bad file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return decode(path, geometry)
        except BadImage:
            return None


def _read(path: str | Path) -> Image.Image:
    """As RGB, upright."""
    try:
        with Image.open(path) as image:
            _refuse(image)
            ImageOps.exif_transpose(image, in_place=True)
            return _colours(image)
    except BadImage:
        raise
    except UnidentifiedImageError:
        if not os.path.getsize(path):
            raise BadImage("not a readable image (the file is empty)") from None
        raise BadImage("not a readable image (no format that Pillow knows)") from None
    except OSError as error:
        raise BadImage(f"not a readable image ({error.strerror or error})") from error
    except Exception as error:  # a damaged file makes Pillow's plugins raise nearly anything; the file is named
        raise BadImage(f"not a readable image ({type(error).__name__}: {error})") from error


def _refuse(image: Image.Image) -> None:
    """What the header already shows to be unusable."""
    _limit(image.size, image.size, "")
    if image.format in UNREAD:
        raise BadImage(f"{image.format} is no format that is read here")
    if image.mode in ("I", "F"):
        raise BadImage(f"32 bits a channel (mode {image.mode}), and no telling which of them count; convert it to 8")


def _limit(size: tuple[int, int], becoming: tuple[int, int], how: str) -> None:
    most = Image.MAX_IMAGE_PIXELS  # above it Pillow only warns, and refuses from twice as many on
    if most and becoming[0] * becoming[1] > most:
        raise BadImage(f"{size[0]}x{size[1]} pixels are more than the {most:,} accepted{how}")


def _colours(image: Image.Image) -> Image.Image:
    """As RGB."""
    if image.mode.startswith("I;16"):
        deep = np.asarray(image)
        if 0 < deep.max() < 4096:
            raise BadImage(f"16 bits a channel of which {deep.max()} is the most: as 8 bits it would be all but black")
        return Image.fromarray((deep >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def _fitted(image: Image.Image, geometry: ResizeSpec) -> Image.Image:
    """Brought to the geometry's size, pixel for pixel as torchvision's presets do it."""
    size, resize = geometry.size, geometry.resize
    if size is None:
        return image
    width, height = (size, size) if resize is None else _scaled(*image.size, resize)
    if image.size != (width, height):
        _limit(image.size, (width, height), f", resized to {width}x{height}")
        image = image.resize((width, height), METHODS[geometry.interpolation])
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size)) if image.size != (size, size) else image


def _scaled(width: int, height: int, shorter: int) -> tuple[int, int]:
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


@dataclass
class DecodeResult:
    """What became of some files.

    Attributes:
        digests: of the pixels of each file, one after the other; zeros where there are none.
        problems: (number of the file among them, reason) of the bad ones.
    """

    digests: bytes
    problems: list[tuple[int, str]]


Sink = Callable[[int, np.ndarray], None]  # takes the pixels of a row


def decode_rows(paths: list[str], first: int, shape: tuple[int, ...], geometry: ResizeSpec, sink: Sink) -> DecodeResult:
    """Decodes files in turn, and hands each to the sink with the number of its row.

    Args:
        first: row of the first of them.
        shape: [H, W, 3] of a row.

    Raises:
        Unequal: an image of another shape.
    """
    digests, problems = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a file either is used or is refused with a reason
        for number, path in enumerate(paths):
            digest = bytes(DIGEST_BYTES)
            try:
                pixels = np.ascontiguousarray(decode(path, geometry))
                if pixels.shape != shape:
                    raise SizeMismatch(first + number, f"{pixels.shape[1]}x{pixels.shape[0]}")
                digest = blake2b(pixels.data, digest_size=DIGEST_BYTES).digest()
                sink(first + number, pixels)
            except BadImage as error:
                problems.append((number, str(error)))
            digests.append(digest)
    return DecodeResult(b"".join(digests), problems)


def into_file(file: int) -> Sink:
    """Writes rows to a file; not through a mapping, where a full disk would end the process by a signal."""

    def write(row: int, pixels: np.ndarray) -> None:
        data, at = pixels.data.cast("B"), row * pixels.nbytes
        while data:
            written = os.pwrite(file, data, at)
            data, at = data[written:], at + written

    return write


def request(shape: tuple[int, ...], geometry: ResizeSpec, path: Path | None, send: bool) -> str:
    """The first line for a decoding process.

    Args:
        path: the file that the rows go to.
        send: the pixels of the good files follow each answer.
    """
    words = {"shape": shape, "geometry": asdict(geometry), "path": str(path) if path else None, "send": send}
    return json.dumps(words)


def serve(lines: Iterator[str], answers: IO[bytes]) -> None:
    """Answers lines of [first row, paths] with lines of Found; {"unequal": ...}, {"error": ...} end it."""
    settings: dict[str, Any] = json.loads(next(lines))
    geometry, shape = ResizeSpec(**settings["geometry"]), tuple(settings["shape"])
    sent: list[np.ndarray] = []
    write = into_file(os.open(settings["path"], os.O_WRONLY)) if settings["path"] else None

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
            found = decode_rows(paths, first, shape, geometry, sink)
            answer: dict[str, Any] = {"digests": base64.b64encode(found.digests).decode(), "problems": found.problems}
        except SizeMismatch as error:
            answer = {"unequal": [error.row, str(error)]}
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
    except BrokenPipeError:  # the program that asked is gone; nobody is left to tell
        os._exit(1)
