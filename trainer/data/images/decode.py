"""Decode image files to 8 bits per channel. Imports neither torch nor this package."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

DIGEST_BYTES = 16
METHODS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Pillow reads no more than the header of these, or runs another program: Ghostscript would execute an EPS file.
UNSUPPORTED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
HEIF_SUFFIXES = {".heic", ".heics", ".heif", ".heifs", ".hif"}
HEIF_INSTALL = "pip install 'trainer-cli[heic]'"
BITS_PER_SAMPLE = 258  # a tag of TIFF
DEEPEST = (0, 65535)


class BadImage(ValueError):
    """An image that cannot be used; the text is a clause that says why, without the file's name."""


@dataclass(frozen=True)
class DecodeSpec:
    """The pixels that image files are decoded to.

    Attributes:
        size: height and width of the result, or one number for both; None keeps the size of the image.
        resize: the shorter side is brought to this length and the central `size` is cut out; None squashes the image.
        interpolation: a key of METHODS.
        channels: 3 for RGB, 1 for grey.
        range: the values that become black and white in images of more than 8 bits; None: as their format says.
    """

    size: int | tuple[int, int] | None = None
    resize: int | None = None
    interpolation: str = "bilinear"
    channels: int = 3
    range: tuple[float, float] | None = None

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape [H, W, C] of the result; None if it is that of the image."""
        if self.size is None:
            return None
        return (*((self.size, self.size) if isinstance(self.size, int) else self.size), self.channels)


def suffixes() -> set[str]:
    """Return the suffixes of supported image files, in lower case and with the dot."""
    register_heif()
    formats = Image.registered_extensions()
    return {suffix for suffix, name in formats.items() if name in Image.OPEN and name not in UNSUPPORTED}


@lru_cache(maxsize=1)
def register_heif() -> bool:
    """Let Pillow read HEIC photos if pillow-heif is installed; return whether it is."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def decode(path: str | Path, spec: DecodeSpec) -> np.ndarray:
    """Decode an image file to uint8 [H, W, C], RGB or grey.

    The first frame is taken, rotated as its EXIF data says, with transparent pixels on white. Deeper pixels are scaled
    to 8 bits from `spec.range`; of 16 bits per channel of colour the upper 8 are kept, as Pillow does.

    Raises:
        BadImage: the file cannot be used, for whatever reason.
    """
    return _pixels(_resized(_read(path, spec), spec))


def from_image(image: Image.Image, spec: DecodeSpec) -> np.ndarray:
    """Convert an opened image, which is not changed, to uint8 [H, W, C]; see `decode`.

    Raises:
        BadImage: the image cannot be used.
    """
    header = _check_header(image, spec)
    return _pixels(_resized(_in_8_bits(ImageOps.exif_transpose(image), spec, header), spec))


def try_decode(path: str, spec: DecodeSpec) -> np.ndarray | None:
    """Decode an image file without Pillow's warnings; return None if it cannot be used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return decode(path, spec)
        except BadImage:
            return None


def _pixels(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _read(path: str | Path, spec: DecodeSpec) -> Image.Image:
    try:
        with _open(path) as image:
            header = _check_header(image, spec)
            ImageOps.exif_transpose(image, in_place=True)
            return _in_8_bits(image, spec, header)
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


def _open(path: str | Path) -> Image.Image:
    """Open an image file; a HEIC photo of a phone may be called .jpg."""
    with open(path, "rb") as file:
        start = file.read(12)
    if start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS and not register_heif():
        raise BadImage(f"a HEIC photo, which needs pillow-heif: {HEIF_INSTALL}")
    return Image.open(path)


class _Header(NamedTuple):
    """What a file says of its pixels.

    Attributes:
        limits: the values that become black and white, if the image is grey and of more than 8 bits.
        halved: whether Pillow will keep the upper 8 bits of its 16 per channel.
    """

    limits: tuple[float, float] | None = None
    halved: bool = False


def _check_header(image: Image.Image, spec: DecodeSpec) -> _Header:
    _check_pixels(image.size, image.size, "")
    if image.format in UNSUPPORTED:
        raise BadImage(f"the format {image.format} is not supported")
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))[0]  # a TIFF may say 12
        return _Header(spec.range or (0, 2**bits - 1))
    if image.mode not in ("I", "F"):
        halved = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
        if halved and spec.range not in (None, DEEPEST):
            raise BadImage("16 bits per channel of colour, of which Pillow reads the upper 8: data.range is for grey")
        return _Header(halved=halved)
    if spec.range is None and image.format != "PPM":
        advice = "data.range=[LOW,HIGH] states the values of black and white"
        raise BadImage(f"32 bits per channel (mode {image.mode}) of unknown range; {advice}")
    return _Header(spec.range or DEEPEST)


def _check_pixels(size: tuple[int, int], result: tuple[int, int], how: str) -> None:
    limit = Image.MAX_IMAGE_PIXELS  # Pillow itself only warns above it, and refuses from twice as many on
    if limit and result[0] * result[1] > limit:
        raise BadImage(f"{size[0]}x{size[1]} pixels are more than the {limit:,} accepted{how}")


def _in_8_bits(image: Image.Image, spec: DecodeSpec, header: _Header) -> Image.Image:
    """Return the image as RGB or grey."""
    if header.limits is not None:
        image = Image.fromarray(_scaled_to_bytes(np.asarray(image), *header.limits, stated=spec.range is not None))
    elif header.halved and 0 < np.asarray(image).max() < 16:
        raise BadImage("16 bits per channel of colour with values below 4096: almost black as 8 bits")
    elif image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB" if spec.channels == 3 else "L")


def _scaled_to_bytes(values: np.ndarray, low: float, high: float, *, stated: bool) -> np.ndarray:
    """Return values from `low` to `high` as uint8; of 0 to 65,535 these are the upper 8 bits."""
    lowest, highest = values.min(), values.max()
    if not low <= lowest <= highest <= high:  # NaN included
        raise BadImage(f"values from {lowest:g} to {highest:g}, where data.range=[{low:g},{high:g}]")
    if not stated and (low, high) == DEEPEST and 0 < highest < 4096:
        advice = "data.range=4095 states the value of white"
        raise BadImage(f"16 bits per channel with values up to {highest}: almost black as 8 bits; {advice}")
    steps = high - low + (values.dtype.kind != "f")  # 256 intervals of equal length
    return np.minimum((values.astype(np.float64) - low) * 256 / steps, 255).astype(np.uint8)


def _resized(image: Image.Image, spec: DecodeSpec) -> Image.Image:
    """Return the image as torchvision's presets resize and crop it, pixel for pixel."""
    if spec.shape is None:
        return image
    (height, width, _), resize = spec.shape, spec.resize
    scaled = (width, height) if resize is None else _scaled(*image.size, resize)
    if image.size != scaled:
        _check_pixels(image.size, scaled, f", resized to {scaled[0]}x{scaled[1]}")
        image = image.resize(scaled, METHODS[spec.interpolation])
    left, top = round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)
    return image if scaled == (width, height) else image.crop((left, top, left + width, top + height))


def _scaled(width: int, height: int, shorter: int) -> tuple[int, int]:
    return (shorter, int(shorter * height / width)) if width <= height else (int(shorter * width / height), shorter)
