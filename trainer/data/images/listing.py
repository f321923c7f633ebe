"""Image files below a folder, their splits and classes, from names alone; no file is opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.data.images.walk import ARCHIVER_FOLDER, FolderWalk
from trainer.errors import Problem, UserError, check_names, suggestions

ORDER = ("train", "valid", "test")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}


@dataclass
class Listing:
    """The image files of each split.

    Attributes:
        root: absolute and without symbolic links.
        classes: in the order of the labels.
        splits: (path relative to the root, label) of the files of each split, sorted by label and path.
        notes: sentences about what was left out.
    """

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, list[tuple[str, int]]]
    notes: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[tuple[str, int]]:
        """The files of all splits, in the order of the rows of decoded images."""
        return [file for files in self.splits.values() for file in files]


def list_images(root: str, selected: Sequence[str] | None = None) -> Listing:
    """List the image files below `root`, which has folders for splits, or class folders that are all `train`.

    Folders inside a class folder belong to the class. Hidden files and folders are ignored, and symbolic links that
    lead outside `root`, or back to a folder that they are in, are not followed.

    Args:
        selected: only these classes, in this order; default: all, in alphabetical order.

    Raises:
        UserError: no such folder, one that cannot be read, no classes, an empty one, or splits with different classes.
    """
    walk = _walk(root)
    split_folders = _find_splits(walk)
    class_folders = {split: {f.name: f for f in walk.folders(where)} for split, where in split_folders.folders.items()}
    _check_classes(walk, split_folders.folders, class_folders)
    classes = tuple(class_folders["train"])
    if selected is not None:
        classes = _select(classes, selected)
    files: dict[str, list[tuple[str, int]]] = {}
    for split, folders in class_folders.items():
        files[split] = []
        for label, name in enumerate(classes):
            paths = sorted(walk.images(folders[name]))
            if not paths:
                raise UserError(Problem(str(walk.shown(folders[name])), "no images in this class folder"))
            files[split] += [(path, label) for path in paths]
    return Listing(walk.top, classes, files, split_folders.notes + walk.notes())


@dataclass
class FolderReport:
    """Everything below a folder of images, usable or not.

    Attributes:
        root: absolute and without symbolic links.
        splits: {split: {class: paths of its images, relative to the root}}.
        hidden: {folder that is ignored because its name begins with a dot: number of images in it}.
        beside: {folder that is ignored because it is not one of the splits: number of images in it}.
        loose: {folder of a split, or the root: number of images in it outside the class folders}.
        links: symbolic links that are broken, lead outside or form a loop.
        others: number of files in class folders without the suffix of an image.
    """

    root: Path
    splits: dict[str, dict[str, list[str]]]
    hidden: dict[str, int]
    beside: dict[str, int]
    loose: dict[str, int]
    links: list[str]
    others: int


def survey(root: str) -> FolderReport:
    """Describe everything below `root`; `list_images` stops at the first thing that cannot be used.

    Raises:
        UserError: no such folder, or its splits are ambiguous.
    """
    walk = _walk(root)
    split_folders = _find_splits(walk)
    splits = {
        split: {folder.name: sorted(walk.images(folder)) for folder in walk.folders(where)}
        for split, where in split_folders.folders.items()
    }
    others = walk.others  # before the ignored folders are counted
    beside = {folder.name: count for folder in split_folders.beside if (count := len(list(walk.images(folder))))}
    loose = {str(walk.shown(folder)): count for folder, count in walk.loose.items()}
    links = [str(walk.shown(Path(link))) for link in sorted(walk.links)]
    return FolderReport(walk.top, splits, _hidden(walk), beside, loose, links, others)


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


def _walk(root: str) -> FolderWalk:
    top = Path(os.path.realpath(root))
    if not top.is_dir():
        raise UserError(Problem("data.root", "not a folder" if top.exists() else "no such folder", given=root))
    return FolderWalk(top, Path(root))


@dataclass
class _SplitFolders:
    folders: dict[str, Path]
    beside: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _find_splits(walk: FolderWalk) -> _SplitFolders:
    folders = walk.folders(walk.top)
    named = [folder for folder in folders if folder.name.lower() in SPLIT_NAMES]
    others = [folder for folder in folders if folder not in named]
    if [folder.name for folder in named] == ["train"] and others and not walk.folders(named[0]):
        walk.loose.pop(named[0])
        note = "train is a class: it contains no folders, and there are other folders beside it"
        return _SplitFolders({"train": walk.top}, notes=[note])
    if not named:
        return _SplitFolders({"train": walk.top})
    splits: dict[str, Path] = {}
    root = str(walk.shown_top)
    for folder in named:
        split = SPLIT_NAMES[folder.name.lower()]
        if split in splits:
            reason = f"both {splits[split].name} and {folder.name} are the {split} split"
            raise UserError(Problem("data.root", reason, given=root))
        splits[split] = folder
    if "train" not in splits:
        reason = f"there is {', '.join(folder.name for folder in named)} but no train folder"
        raise UserError(Problem("data.root", reason, given=root))
    names = ", ".join(folder.name for folder in others[:10])
    notes = [f"ignored, because they are not splits: {names}"] if others else []
    ordered = dict(sorted(splits.items(), key=lambda item: ORDER.index(item[0])))
    return _SplitFolders(ordered, others, notes)


def _check_classes(walk: FolderWalk, splits: dict[str, Path], class_folders: dict[str, dict[str, Path]]) -> None:
    """Refuse fewer than two classes, classes that differ between splits, and names that cannot be printed."""
    for split, folders in class_folders.items():
        where = walk.shown(splits[split])
        if different := sorted(set(folders) ^ set(class_folders["train"])):
            train, names = walk.shown(splits["train"]), ", ".join(map(readable, different))
            raise UserError(Problem(str(where), f"its classes are not those of {train}: {names} differ"))
        if len(folders) < 2:
            inner = [folder for folder in folders.values() if len(walk.folders(folder)) > 1]
            reason = f"{len(folders)} class folders; expected a folder of images for each of two classes or more"
            advice = " ".join(f"Did you mean data.root={walk.shown(folder)}?" for folder in inner)
            raise UserError(Problem(str(where), reason, advice=advice))
        check_names(str(where), "class", folders, check="label range")


def readable(name: str) -> str:
    """Return the name of a file as text, with what is not UTF-8 replaced."""
    return os.fsencode(name).decode(errors="replace")


def _select(classes: tuple[str, ...], selected: Sequence[str]) -> tuple[str, ...]:
    for name in selected:
        if name not in classes:
            advice = suggestions(name, classes, most=20)
            raise UserError(Problem("data.classes", f"there is no class {name}", advice=advice))
    if len(set(selected)) < max(2, len(selected)):
        reason = "expected two different classes or more"
        raise UserError(Problem("data.classes", reason, given=f"[{','.join(selected)}]"))
    return tuple(selected)
