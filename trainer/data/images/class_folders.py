"""The class folders below a folder, and the image files in them, from names alone; no file is opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.data.images import recognise
from trainer.data.images.listing import Listing, Target, readable
from trainer.data.images.walk import FolderWalk
from trainer.data.split import SPLIT_NAMES, SPLITS
from trainer.errors import Problem, UserError, check_names, suggestions

NO_CLASS = {"all", "images", "test", "unknown", "unlabeled", "unlabelled"}  # names of folders of unlabelled images


def list_images(root: str, selected: tuple[str, ...] | None = None, *, follow_links: bool = False) -> Listing:
    """List the image files below `root`, which has folders for splits, or class folders that are all `train`.

    Folders inside a class folder belong to the class; files are sorted by label and path. Hidden files and folders are
    ignored. Symbolic links that lead back to a folder that they are in are not followed, and those that lead outside
    `root` only if `follow_links`.

    Args:
        selected: only these classes, in this order; default: all, in alphabetical order.

    Raises:
        UserError: no such folder, one that cannot be read, no classes, an empty one, or splits with different classes.
    """
    walk = open_walk(root, follow_links)
    split_folders = find_splits(walk)
    class_folders = {split: {f.name: f for f in walk.folders(where)} for split, where in split_folders.folders.items()}
    _check_classes(walk, split_folders.folders, class_folders)
    classes = tuple(class_folders["train"])
    if selected is not None:
        classes = _select(classes, selected)
    files: dict[str, list[tuple[str, Target]]] = {}
    for split, folders in class_folders.items():
        files[split] = []
        for label, name in enumerate(classes):
            paths = sorted(walk.images(folders[name]))
            if not paths:
                raise _nothing(walk, folders[name], "no images in this class folder")
            files[split] += [(path, label) for path in paths]
    listing = Listing(walk.top, root, classes, files, selected, split_folders.notes + walk.notes())
    if split_folders.unlabelled:
        listing.unlabelled = str(split_folders.unlabelled.relative_to(walk.top))
    return listing


def _nothing(walk: FolderWalk, folder: Path, reason: str, advice: str = "") -> UserError:
    """Return the error of a folder without images or classes, with what is there and could be read."""
    where = str(walk.shown(folder))
    for what, command in walk.remedies(folder):
        return UserError(Problem(where, f"{reason}, but {what}", advice="This includes them", command=command))
    return UserError(Problem(where, reason, advice=advice))


def open_walk(root: str, follow_links: bool = False) -> FolderWalk:
    """Return a walk below `data.root`.

    Raises:
        UserError: it is not a folder.
    """
    top = Path(os.path.realpath(root))
    if top.is_file():
        raise UserError(recognise.of_file(root))
    if not top.is_dir():
        raise UserError(Problem("data.root", "not a folder" if top.exists() else "no such folder", given=root))
    return FolderWalk(top, Path(root), follow_links)


@dataclass
class SplitFolders:
    """The folders of the splits, the other folders beside them, and sentences about both.

    Attributes:
        unlabelled: the test folder, if its images are not in folders of classes.
    """

    folders: dict[str, Path]
    beside: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unlabelled: Path | None = None


def find_splits(walk: FolderWalk) -> SplitFolders:
    """Return the folder of each split; if there are none, the folder itself is the training split.

    Raises:
        UserError: two folders are the same split, or there is none to train on.
    """
    folders = walk.folders(walk.top)
    named = [folder for folder in folders if folder.name.lower() in SPLIT_NAMES]
    others = [folder for folder in folders if folder not in named]
    if [folder.name for folder in named] == ["train"] and others and not walk.folders(named[0]):
        walk.loose.pop(named[0])
        note = "train is a class: it contains no folders, and there are other folders beside it"
        return SplitFolders({"train": walk.top}, notes=[note])
    if not named:
        return SplitFolders({"train": walk.top})
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
    unlabelled = None
    if "test" in splits and (count := _unlabelled(walk, splits)):
        unlabelled = splits.pop("test")
        notes.append(f"{unlabelled.name} holds {count:,} images without classes: nothing is held out or tested")
    ordered = dict(sorted(splits.items(), key=lambda item: SPLITS.index(item[0])))
    return SplitFolders(ordered, others, notes, unlabelled)


def _unlabelled(walk: FolderWalk, splits: dict[str, Path]) -> int:
    """Return the number of images in a test folder without class folders; 0 if it has some."""
    train, test = ({folder.name: folder for folder in walk.folders(splits[name])} for name in ("train", "test"))
    if len(train) < 2 or len(test) > 1 or any(name in train or name.lower() not in NO_CLASS for name in test):
        return 0
    places = [splits["test"], *test.values()]
    for place in places:
        walk.folders(place)
    return sum(walk.loose.pop(place, 0) for place in places)


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
            if inner or split != "train" or walk.remedies(splits[split]):
                raise _nothing(walk, splits[split], reason, advice)
            known = recognise.in_folder(str(where), str(walk.shown_top))
            if known is not None:
                what, advice, command = known
                raise UserError(Problem(str(where), f"{reason}; {what}", advice=advice, command=command))
            raise _nothing(walk, splits[split], reason, advice)
        check_names(str(where), "class", folders, check="label range")


def _select(classes: tuple[str, ...], selected: Sequence[str]) -> tuple[str, ...]:
    for name in selected:
        if name not in classes:
            advice = suggestions(name, classes, most=20)
            raise UserError(Problem("data.classes", f"there is no class {name}", advice=advice))
    if len(set(selected)) < max(2, len(selected)):
        reason = "expected two different classes or more"
        raise UserError(Problem("data.classes", reason, given=f"[{','.join(selected)}]"))
    return tuple(selected)
