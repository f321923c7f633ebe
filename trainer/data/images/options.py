"""The options of image data sets, checked: how files are decoded, cached and, if they cannot be used, left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.data.images.decode import METHODS, DecodeSpec
from trainer.errors import Problem, UserError, show

# The functions that take these options, as a configuration names them.
FOLDER, TABLE = "trainer.data.images.folder.image_folder", "trainer.data.images.table.image_table"
CACHE_WORDS = {"auto": None, "true": True, "false": False}
LARGEST = 1e30  # value of a pixel


@dataclass(frozen=True)
class ImageOptions:
    """The options as a user types them.

    Attributes:
        size: height and width in pixels: one number for both, or a pair; None keeps those of the images.
        resize: the shorter side is resized to this length and the centre cropped; None squashes the image.
        interpolation: a key of METHODS; None for bilinear.
        channels: 3 for colour, 1 for grey.
        range: the value of white, or those of black and white, in images of more than 8 bits; None: see `DecodeSpec`.
        on_bad_image: `error`, or `skip` to leave out files that cannot be used.
        cache: see `cache_of`.
    """

    size: Any = None
    resize: Any = None
    interpolation: Any = None
    channels: Any = 3
    range: Any = None
    on_bad_image: Any = "error"
    cache: Any = "auto"

    def spec(self) -> DecodeSpec:
        """Return how files are decoded.

        Raises:
            UserError: an option is out of range.
        """
        sides = self.size if isinstance(self.size, (list, tuple)) else [self.size]
        if self.size is not None and (len(sides) > 2 or not sides or not all(map(_is_length, sides))):
            reason = "expected a number of pixels from 1, or two: [height,width]"
            raise UserError(Problem("data.size", reason, given=show(self.size)))
        if self.resize is not None and not _is_length(self.resize):
            raise UserError(Problem("data.resize", "expected a number of pixels from 1", given=show(self.resize)))
        if self.resize is not None and (self.size is None or max(sides) > self.resize):
            reason = (
                f"the shorter side is resized to it, and the central data.size={show(self.size)} pixels are cropped"
            )
            advice = f"Give a data.size up to {self.resize}."
            raise UserError(Problem("data.resize", reason, given=show(self.resize), advice=advice))
        if self.interpolation not in (None, *METHODS):
            reason = f"expected {' or '.join(METHODS)}"
            raise UserError(Problem("data.interpolation", reason, given=show(self.interpolation)))
        if self.channels not in (1, 3) or isinstance(self.channels, bool):
            raise UserError(Problem("data.channels", "expected 3 for colour or 1 for grey", given=show(self.channels)))
        size = sides[0] if len(sides) == 1 else (sides[0], sides[1])
        return DecodeSpec(size, self.resize, self.interpolation or "bilinear", self.channels, self._limits())

    def _limits(self) -> tuple[float, float] | None:
        if self.range is None:
            return None
        limits = self.range if isinstance(self.range, (list, tuple)) else [0, self.range]
        if len(limits) != 2 or not all(map(_is_value, limits)) or limits[0] >= limits[1]:
            reason = "expected the value of white, such as 4095, or those of black and white, such as [-1024,3071]"
            raise UserError(Problem("data.range", reason, given=show(self.range)))
        return limits[0], limits[1]

    def skips(self) -> bool:
        """Return whether files that cannot be used are left out.

        Raises:
            UserError: `on_bad_image` is neither `error` nor `skip`.
        """
        if self.on_bad_image not in ("error", "skip"):
            raise UserError(Problem("data.on_bad_image", "expected error or skip", given=show(self.on_bad_image)))
        return self.on_bad_image == "skip"


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_value(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST


def check_switch(name: str, value: Any) -> None:
    """Refuse a value of `data.<name>` that is neither true nor false.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(value, bool):
        raise UserError(Problem(f"data.{name}", "expected true or false", given=show(value)))


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
