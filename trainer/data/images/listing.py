"""Which image files a folder holds, in which class and part: told from names alone, no file is opened."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.data.images.decode import suffixes
from trainer.errors import Problem, UserError, suggestions

PART_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}
LEFT_BY_ARCHIVERS = "__MACOSX"


@dataclass
class Listing:
    """The files of each part and class.

    Attributes:
        root: without symbolic links.
        classes: in the order of the labels.
        parts: for each part (path relative to the root, label) of its files: classes in order, paths in order.
        notes: what was left out, as sentences.
    """

    root: Path
    classes: tuple[str, ...]
    parts: dict[str, list[tuple[str, int]]]
    notes: list[str] = field(default_factory=list)


def list_images(root: str, wanted: Sequence[str] | None = None) -> Listing:
    """The image files below `root`: in parts, or all in one, which is `train`.

    The folders inside a class folder belong to the class. Hidden files and folders are no data, and symbolic links
    that lead out of `root`, or back to a folder that they are in, are not followed.

    Args:
        wanted: only these classes, in this order; default: all, in the order of the alphabet.

    Raises:
        UserError: no such folder, one that cannot be read, no classes, an empty one, or parts that do not agree.
    """
    top = Path(os.path.realpath(root))
    if not top.is_dir():
        raise UserError(f"data.root={root}: {'no folder' if top.exists() else 'no such folder'}.")
    walk = _Walk(top, Path(root))
    parts = _parts(walk)
    found = {part: {folder.name: folder for folder in walk.folders(where)} for part, where in parts.items()}
    _check_classes(walk, parts, found)
    classes = tuple(found["train"])
    if wanted is not None:
        classes = _chosen(classes, wanted)
    files: dict[str, list[tuple[str, int]]] = {}
    for part, folders in found.items():
        files[part] = []
        for label, name in enumerate(classes):
            inside = sorted(walk.images(folders[name]))
            if not inside:
                raise UserError(f"{walk.shown(folders[name])}: no images in this class folder.")
            files[part] += [(path, label) for path in inside]
    return Listing(top, classes, files, walk.notes())


@dataclass
class FolderReport:
    """All that stands below a folder, fit to be trained on or not.

    Attributes:
        parts: {part: {class: paths of its images, relative to the root}}.
        hidden: {folder that is left out because its name begins with a dot: how many images it holds}.
        beside: {folder that is left out because it stands beside the parts: how many images it holds}.
        loose: {folder of a part, or the root: how many images stand in it outside the classes}.
        links: symbolic links that lead nowhere, outside or back.
        others: how many files in the classes are no images by their names.
    """

    root: Path
    parts: dict[str, dict[str, list[str]]]
    hidden: dict[str, int]
    beside: dict[str, int]
    loose: dict[str, int]
    links: list[str]
    others: int


def survey(root: str) -> FolderReport:
    """Looks at everything below `root` where `list_images` stops at the first thing that cannot be used.

    Raises:
        UserError: no such folder, or no telling which of its folders are the parts.
    """
    top = Path(os.path.realpath(root))
    if not top.is_dir():
        raise UserError(f"data.root={root}: {'no folder' if top.exists() else 'no such folder'}.")
    walk = _Walk(top, Path(root))
    parts = _parts(walk)
    found = {
        part: {folder.name: sorted(walk.images(folder)) for folder in walk.folders(where)}
        for part, where in parts.items()
    }
    others = walk.others  # not those in folders that are left out
    beside = {folder.name: count for folder in walk.beside if (count := len(list(walk.images(folder))))}
    loose = {str(walk.shown(folder)): count for folder, count in walk.loose.items()}
    links = [str(walk.shown(Path(link))) for link in sorted(walk.links)]
    hidden = {}
    for at, folders, _ in os.walk(top):
        folders[:] = sorted(name for name in folders if name != LEFT_BY_ARCHIVERS)
        for name in [name for name in folders if name.startswith(".")]:
            folders.remove(name)
            inside = sum(walk.is_image_name(file) for _, _, files in os.walk(Path(at, name)) for file in files)
            if inside:
                hidden[str(walk.shown(Path(at, name)))] = inside
    return FolderReport(top, found, hidden, beside, loose, links, others)


def images_below(root: str) -> list[str]:
    """Paths of all image files below a folder, sorted; with the same left out as in a folder of classes.

    Raises:
        UserError: a folder cannot be read.
    """
    top = Path(os.path.realpath(root))
    return [os.path.join(root, path) for path in sorted(_Walk(top, Path(root)).images(top))]


def _parts(walk: _Walk) -> dict[str, Path]:
    """The folder of each part."""
    folders = walk.folders(walk.top)
    named = [folder for folder in folders if folder.name.lower() in PART_NAMES]
    others = [folder.name for folder in folders if folder not in named]
    if [folder.name for folder in named] == ["train"] and others and not walk.folders(named[0]):
        walk.loose.pop(named[0])
        walk.more.append("train is a class: it holds no folders, and others stand beside it")
        return {"train": walk.top}
    if not named:
        return {"train": walk.top}
    parts: dict[str, Path] = {}
    for folder in named:
        part = PART_NAMES[folder.name.lower()]
        if part in parts:
            raise UserError(f"data.root={walk.given}: both {parts[part].name} and {folder.name} are the {part} part.")
        parts[part] = folder
    if "train" not in parts:
        raise UserError(f"data.root={walk.given}: there is {', '.join(f.name for f in named)} but no train folder.")
    walk.beside = [folder for folder in folders if folder not in named]
    if others:
        walk.more.append(f"left out, as they stand beside {parts['train'].name}: {', '.join(others[:10])}")
    return {part: parts[part] for part in ("train", "valid", "test") if part in parts}


def _check_classes(walk: _Walk, parts: dict[str, Path], found: dict[str, dict[str, Path]]) -> None:
    """Whether there are two or more, the same in every part, with names that can be written down."""
    for part, folders in found.items():
        where = walk.shown(parts[part])
        if odd := sorted(set(folders) ^ set(found["train"])):
            train = walk.shown(parts["train"])
            raise UserError(f"{where}: its classes are not those of {train}: {', '.join(map(readable, odd))} differ.")
        if len(folders) < 2:
            inner = [folder for folder in folders.values() if len(walk.folders(folder)) > 1]
            raise UserError(
                f"{where}: {len(folders)} class folders; expected a folder of images for each of two classes or more."
                + "".join(f" Did you mean data.root={walk.shown(folder)}?" for folder in inner)
            )
        for name in folders:
            if readable(name) != name:
                raise UserError(f"{where / readable(name)}: the name of a class must be UTF-8.")


def readable(name: str) -> str:
    """A file's name as it can be printed, whatever its bytes are."""
    return os.fsencode(name).decode(errors="replace")


def _chosen(classes: tuple[str, ...], wanted: Sequence[str]) -> tuple[str, ...]:
    for name in wanted:
        if name not in classes:
            advice = suggestions(name, classes, most=20)
            raise UserError(Problem("data.classes", f"there is no class {name}", advice=advice))
    if len(set(wanted)) < max(2, len(wanted)):
        raise UserError(f"data.classes=[{','.join(wanted)}]: expected two different classes or more.")
    return tuple(wanted)


class _Walk:
    """Goes through folders and counts what it leaves out."""

    def __init__(self, top: Path, given: Path) -> None:
        self.top, self.given = top, given
        self.suffixes = suffixes()
        self.others, self.nested = 0, False
        self.loose: Counter[Path] = Counter()
        self.links: set[str] = set()
        self.beside: list[Path] = []
        self.more: list[str] = []
        self.looked_at: dict[Path, list[Path]] = {}

    def shown(self, path: Path) -> Path:
        """As the user named it."""
        return self.given / path.relative_to(self.top)

    def notes(self) -> list[str]:
        """What was left out."""
        notes = list(self.more)
        if self.nested:
            notes.append("class folders hold folders: the images in them belong to the class")
        for count, one, many in (
            (self.others, "file that is no image", "files that are no images"),
            (self.loose.total(), "image outside the class folders", "images outside the class folders"),
            (len(self.links), "symbolic link that leads outside or back", "symbolic links that lead outside or back"),
        ):
            if count:
                notes.append(f"left out: {count:,} {one if count == 1 else many}")
        return notes

    def folders(self, folder: Path) -> list[Path]:
        """The folders in a folder; images that stand beside them are counted."""
        if folder not in self.looked_at:
            self.looked_at[folder] = []
            for entry in self._entries(folder):
                if entry.is_dir():
                    self.looked_at[folder].append(Path(entry.path))
                elif self._is_image(entry):
                    self.loose[folder] += 1
        return self.looked_at[folder]

    def images(self, folder: Path) -> Iterator[str]:
        """Paths, relative to the top, of the images in a folder and all below; each folder once, so that rings end."""
        waiting, seen = [folder], set()
        while waiting:
            at = waiting.pop()
            if (real := os.path.realpath(at)) in seen:
                continue
            seen.add(real)
            for entry in self._entries(at):
                if entry.is_dir():
                    waiting.append(Path(entry.path))
                    self.nested = True
                elif self._is_image(entry):
                    yield entry.path.removeprefix(os.path.join(self.top, ""))
                else:
                    self.others += 1

    def _is_image(self, entry: os.DirEntry[str]) -> bool:
        return entry.is_file() and self.is_image_name(entry.name)

    def is_image_name(self, name: str) -> bool:
        """Whether the ending of a file's name is that of an image."""
        return os.path.splitext(name)[1].lower() in self.suffixes

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """What is visible in a folder and lies below the top, by name."""
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(
                Problem(str(self.shown(folder)), f"this folder cannot be read ({error.strerror})")
            ) from error
        here, visible = os.path.realpath(folder), []
        for entry in entries:
            if entry.name.startswith(".") or entry.name == LEFT_BY_ARCHIVERS:
                continue
            if entry.is_symlink() and not self._is_inside(entry.path, here):
                self.links.add(os.path.join(here, entry.name))
            else:
                visible.append(entry)
        return visible

    def _is_inside(self, link: str, here: str) -> bool:
        """Whether a link leads to something below the top, and not back to a folder that it is in."""
        target = Path(os.path.realpath(link))
        return os.path.exists(target) and target.is_relative_to(self.top) and not Path(here).is_relative_to(target)
