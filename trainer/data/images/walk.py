"""A walk through folders of images that counts what it leaves out. No file is opened."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from trainer.data.images.decode import HEIF_INSTALL, HEIF_SUFFIXES, suffixes
from trainer.errors import Problem, UserError

FOLLOW = "data.follow_links=true"
ARCHIVER_FOLDER = "__MACOSX"  # left behind by macOS in ZIP files


class FolderWalk:
    """Listing of the folders and images below a folder, without hidden ones and links that lead back.

    `top` is absolute and without symbolic links, `shown` the same folder as the user typed it. Links that lead outside
    are followed if `follow_links`.

    Attributes:
        others: number of files in class folders without the suffix of an image.
        heic: HEIC photos in class folders, where pillow-heif is not installed.
        nested: whether class folders hold folders.
        loose: number of images by folder that should hold nothing but folders.
        outside: symbolic links that were not followed because they lead outside.
        back: those that lead back to a folder that they are in, or nowhere.
    """

    def __init__(self, top: Path, shown: Path, follow_links: bool = False) -> None:
        self.top, self.shown_top, self.follow_links = top, shown, follow_links
        self.suffixes = suffixes()
        self.others, self.nested = 0, False
        self.loose: Counter[Path] = Counter()
        self.heic: set[str] = set()
        self.outside: set[str] = set()
        self.back: set[str] = set()
        self._folders: dict[Path, list[Path]] = {}

    def shown(self, path: Path) -> Path:
        """Return a path below `top` as the user would write it."""
        return self.shown_top / path.relative_to(self.top) if path.is_relative_to(self.top) else path

    def notes(self) -> list[str]:
        """Return sentences about what was left out."""
        notes = []
        if self.nested:
            notes.append("class folders hold folders: the images in them belong to the class")
        for count, one, many in (
            (self.others, "file that is not an image", "files that are not images"),
            (self.loose.total(), "image outside the class folders", "images outside the class folders"),
            (len(self.back), "symbolic link that leads back or nowhere", "symbolic links that lead back or nowhere"),
        ):
            if count:
                notes.append(f"left out: {count:,} {one if count == 1 else many}")
        notes += [f"left out: {what}; {how}" for what, how in self.remedies(self.top)]
        return notes

    def remedies(self, folder: Path) -> list[tuple[str, str]]:
        """Return what was left out below a folder and could be read, each with what to type for it."""
        real = Path(os.path.realpath(folder))
        photos, links = (
            sum(Path(path).is_relative_to(real) for path in paths) if folder != self.top else len(paths)
            for paths in (self.heic, self.outside)
        )
        remedies = []
        if photos:
            remedies.append((f"{photos:,} HEIC photo{'' if photos == 1 else 's'}", HEIF_INSTALL))
        if links:
            what = "symbolic link that leads outside" if links == 1 else "symbolic links that lead outside"
            remedies.append((f"{links:,} {what}", FOLLOW))
        return remedies

    def folders(self, folder: Path) -> list[Path]:
        """Return the folders in a folder, sorted by name; images beside them are counted in `loose`."""
        if folder not in self._folders:
            self._folders[folder] = []
            for entry in self._entries(folder):
                if entry.is_dir():
                    self._folders[folder].append(Path(entry.path))
                elif self._is_image(entry):
                    self.loose[folder] += 1
        return self._folders[folder]

    def images(self, folder: Path) -> Iterator[str]:
        """Yield the paths, relative to `top`, of all images below a folder; no folder is visited twice."""
        waiting, visited = [folder], set()
        while waiting:
            current = waiting.pop()
            if (real := os.path.realpath(current)) in visited:
                continue
            visited.add(real)
            for entry in self._entries(current):
                if entry.is_dir():
                    waiting.append(Path(entry.path))
                    self.nested = True
                elif self._is_image(entry):
                    yield entry.path.removeprefix(os.path.join(self.top, ""))
                elif os.path.splitext(entry.name)[1].lower() in HEIF_SUFFIXES:
                    self.heic.add(os.path.join(real, entry.name))
                else:
                    self.others += 1

    def _is_image(self, entry: os.DirEntry[str]) -> bool:
        return entry.is_file() and self.is_image_name(entry.name)

    def is_image_name(self, name: str) -> bool:
        """Return whether the suffix of a file's name is that of an image."""
        return os.path.splitext(name)[1].lower() in self.suffixes

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """Return what is visible in a folder and lies below `top`, sorted by name."""
        try:
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            reason = f"this folder cannot be read ({error.strerror})"
            raise UserError(Problem(str(self.shown(folder)), reason)) from error
        here, visible = os.path.realpath(folder), []
        for entry in entries:
            if entry.name.startswith(".") or entry.name == ARCHIVER_FOLDER:
                continue
            if not entry.is_symlink() or self._follows(entry, here):
                visible.append(entry)
        return visible

    def _follows(self, link: os.DirEntry[str], here: str) -> bool:
        """Return whether a link in the folder `here` is followed; others are counted."""
        target = Path(os.path.realpath(link.path))
        if not target.exists() or Path(here).is_relative_to(target) or self.top.is_relative_to(target):
            self.back.add(os.path.join(here, link.name))
        elif not (self.follow_links or target.is_relative_to(self.top)):
            self.outside.add(os.path.join(here, link.name))
        else:
            return True
        return False
