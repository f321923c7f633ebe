"""A folder of images as a data source."""

from __future__ import annotations

from typing import Any

from trainer.data.images.class_folders import list_images
from trainer.data.images.options import ImageOptions, check_switch
from trainer.data.images.pool import Progress
from trainer.data.images.source import load_images
from trainer.data.source import Source
from trainer.errors import Problem, UserError, show


def image_folder(
    root: str,
    size: int | list[int] | None = None,
    resize: int | None = None,
    interpolation: str | None = None,
    channels: int = 3,
    range: float | list[float] | None = None,
    classes: list[str] | None = None,
    follow_links: bool = False,
    on_bad_image: str = "error",
    cache: str | bool = "auto",
    progress: Progress | None = None,
) -> Source:
    """Load the images below `root`, which has a folder per class, or a folder per split with a folder per class.

    Args:
        size: height and width of the images, one number or a pair; None keeps them, and all must be of equal size.
        resize: the shorter side is resized to this length and the centre cropped; None squashes the image.
        interpolation: `bilinear` (the default) or `bicubic`.
        channels: 3 for colour, 1 for grey.
        range: the value of white, or those of black and white, in images of more than 8 bits; None: as their format
            says.
        classes: load only these, in this order.
        follow_links: whether to follow symbolic links that lead outside `root`.
        on_bad_image: `error`, or `skip` to leave out files that cannot be used.
        cache: where decoded images are kept: `auto` in the user's cache folder if the disk has room, `true` there in
            any case, `false` in memory, or a folder. Images that do not fit in memory are decoded again every epoch.
        progress: called while images are decoded.

    Raises:
        UserError: a folder or a file that cannot be used, or an argument out of range.
    """
    options = ImageOptions(size, resize, interpolation, channels, range, on_bad_image, cache)
    options.spec()  # before any folder is listed
    check_switch("follow_links", follow_links)
    selected = None if classes is None else _selection(classes)
    return load_images(list_images(root, selected, follow_links=follow_links), options, progress)


def _selection(classes: Any) -> tuple[str, ...]:
    if not isinstance(classes, (list, tuple)):
        reason = "expected a list of class folders, such as [cat,dog]"
        raise UserError(Problem("data.classes", reason, given=show(classes)))
    return tuple(show(name) for name in classes)
