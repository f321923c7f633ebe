"""A walk through folders of images that counts what it leaves out. No file is opened."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from trainer.data.images.decode import suffixes
from trainer.errors import Problem, UserError

ARCHIVER_FOLDER = "__MACOSX"  # left behind by macOS in ZIP files


class FolderWalk:
    """Listing of the folders and images below a folder, without hidden ones and links that lead outside or back.

    `top` is absolute and without symbolic links, `shown` the same folder as the user typed it.

    Attributes:
        others: number of files in class folders without the suffix of an image.
        nested: whether class folders hold folders.
        loose: number of images by folder that should hold nothing but folders.
        links: symbolic links that were not followed.
    """

    def __init__(self, top: Path, shown: Path) -> None:
        self.top, self.shown_top = top, shown
        self.suffixes = suffixes()
        self.others, self.nested = 0, False
        self.loose: Counter[Path] = Counter()
        self.links: set[str] = set()
        self._folders: dict[Path, list[Path]] = {}

    def shown(self, path: Path) -> Path:
        """Return a path below `top` as the user would write it."""
        return self.shown_top / path.relative_to(self.top)

    def notes(self) -> list[str]:
        """Return sentences about what was left out."""
        notes = []
        if self.nested:
            notes.append("class folders hold folders: the images in them belong to the class")
        for count, one, many in (
            (self.others, "file that is not an image", "files that are not images"),
            (self.loose.total(), "image outside the class folders", "images outside the class folders"),
            (len(self.links), "symbolic link that leads outside or back", "symbolic links that lead outside or back"),
        ):
            if count:
                notes.append(f"left out: {count:,} {one if count == 1 else many}")
        return notes

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
            if entry.is_symlink() and not self._is_inside(entry.path, here):
                self.links.add(os.path.join(here, entry.name))
            else:
                visible.append(entry)
        return visible

    def _is_inside(self, link: str, here: str) -> bool:
        """Return whether a link leads to something below `top`, and not back to a folder that it is in."""
        target = Path(os.path.realpath(link))
        return os.path.exists(target) and target.is_relative_to(self.top) and not Path(here).is_relative_to(target)
