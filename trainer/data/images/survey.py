"""Everything below a folder of images, usable or not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from trainer.data.images.class_folders import find_splits, open_walk
from trainer.data.images.walk import ARCHIVER_FOLDER, FolderWalk


@dataclass
class FolderReport:
    """Everything below a folder of images, usable or not.

    Attributes:
        root: absolute and without symbolic links.
        train: the folder of the training split.
        splits: {split: {class: paths of its images, relative to the root}}.
        hidden: {folder that is ignored because its name begins with a dot: number of images in it}.
        beside: {folder that is ignored because it is not one of the splits: number of images in it}.
        loose: {folder of a split, or the root: number of images in it outside the class folders}.
        outside: symbolic links that lead outside and are not followed.
        back: those that are broken or form a loop.
        others: number of files in class folders without the suffix of an image.
    """

    root: Path
    train: Path
    splits: dict[str, dict[str, list[str]]]
    hidden: dict[str, int]
    beside: dict[str, int]
    loose: dict[str, int]
    outside: list[str]
    back: list[str]
    others: int


def survey(root: str, *, follow_links: bool = False) -> FolderReport:
    """Describe everything below `root`; `list_images` stops at the first thing that cannot be used.

    Raises:
        UserError: no such folder, or its splits are ambiguous.
    """
    walk = open_walk(root, follow_links)
    split_folders = find_splits(walk)
    splits = {
        split: {folder.name: sorted(walk.images(folder)) for folder in walk.folders(where)}
        for split, where in split_folders.folders.items()
    }
    others = walk.others  # before the ignored folders are counted
    beside = {folder.name: count for folder in split_folders.beside if (count := len(list(walk.images(folder))))}
    loose = {str(walk.shown(folder)): count for folder, count in walk.loose.items()}
    outside, back = ([str(walk.shown(Path(link))) for link in sorted(links)] for links in (walk.outside, walk.back))
    return FolderReport(
        walk.top, split_folders.folders["train"], splits, _hidden(walk), beside, loose, outside, back, others
    )


def _hidden(walk: FolderWalk) -> dict[str, int]:
    hidden = {}
    for parent, folders, _ in os.walk(walk.top):
        folders[:] = sorted(name for name in folders if name != ARCHIVER_FOLDER)
        for name in [name for name in folders if name.startswith(".")]:
            folders.remove(name)
            path = Path(parent, name)
            if count := sum(walk.is_image_name(file) for _, _, files in os.walk(path) for file in files):
                hidden[str(walk.shown(path))] = count
    return hidden


def images_below(root: str) -> list[str]:
    """Return the paths of all image files below a folder, sorted, ignoring what `list_images` ignores.

    Raises:
        UserError: a folder cannot be read.
    """
    top = Path(os.path.realpath(root))
    return [os.path.join(root, path) for path in sorted(FolderWalk(top, Path(root)).images(top))]
