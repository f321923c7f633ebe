"""Image files that a table names: found below a folder, with or without their suffix."""

from __future__ import annotations

import os
from functools import cached_property, lru_cache
from pathlib import Path

from trainer.data.images.decode import suffixes
from trainer.data.images.walk import FOLLOW


class NotFound(ValueError):
    """A name that no file has; the text is a clause that says so."""


class Outside(NotFound):
    """A name that leads outside the folder."""


class FileFinder:
    """Finder of image files below a folder, of which no other is opened or named.

    Args:
        root: the folder as the user typed it.
        follow_links: whether symbolic links may lead outside it.
    """

    def __init__(self, root: str, *, follow_links: bool) -> None:
        self.root, self.follow_links = root or ".", follow_links
        self.top = os.path.realpath(self.root)
        self._is_inside = lru_cache(maxsize=None)(self._leads_inside)  # of folders
        self._names = lru_cache(maxsize=None)(self._names_in)

    @cached_property
    def suffixes(self) -> set[str]:
        """The suffixes of image files."""
        return suffixes()

    def find(self, name: str) -> str:
        """Return the path of a file, relative to the folder.

        Raises:
            Outside: the name, or a link on the way, leads outside the folder.
            NotFound: there is no such file, or more than one.
        """
        if "\0" in name or "://" in name:
            raise NotFound("a URL; expected the path of a file" if "://" in name else "not the path of a file")
        path = os.path.normpath(os.path.join(self.top, name))
        given = os.path.abspath(self.root)
        if os.path.isabs(name) and Path(path).is_relative_to(given):  # the folder may be typed as a link
            path = os.path.join(self.top, os.path.relpath(path, given))
        if not Path(path).is_relative_to(self.top):
            raise Outside("leads outside data.root")
        parent = os.path.dirname(path)
        if not self.follow_links and not self._is_inside(parent):
            raise Outside(f"leads outside data.root through a symbolic link; {FOLLOW}")
        if not os.path.isfile(path):
            path = os.path.join(parent, self._with_suffix(parent, os.path.basename(path)))
        if not self.follow_links and os.path.islink(path) and not self._leads_inside(path):
            raise Outside(f"is a symbolic link that leads outside data.root; {FOLLOW}")
        return os.path.relpath(path, self.top)

    def _leads_inside(self, path: str) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self.top)

    def _with_suffix(self, folder: str, name: str) -> str:
        """Return the only image file in a folder with this name but for its suffix."""
        names = self._names(folder)
        matching = [full for full in names.get(name.lower(), ()) if os.path.splitext(full)[0] == name]
        if len(matching) > 1:
            raise NotFound(f"more than one file: {', '.join(matching)}")
        if matching and os.path.isfile(os.path.join(folder, matching[0])):
            return matching[0]
        if os.path.lexists(os.path.join(folder, name)):
            raise NotFound("not a regular file")
        stem = os.path.splitext(name)[0].lower()
        near = [full for key in (name.lower(), stem) for full in names.get(key, ()) if _alike(full, name)]
        hint = f"; there is {near[0]}" if near else "; separate folders by /" if "\\" in name else ""
        raise NotFound(f"no such file{hint}")

    def _names_in(self, folder: str) -> dict[str, list[str]]:
        """Return the names of the images in a folder by their lower-case stem."""
        try:
            listed = sorted(os.listdir(folder))
        except OSError:
            return {}
        names: dict[str, list[str]] = {}
        for name in listed:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in self.suffixes:
                names.setdefault(stem.lower(), []).append(name)
        return names


def _alike(full: str, name: str) -> bool:
    """Return whether a file's name differs from another in case alone, or in case and its missing suffix."""
    return name.lower() in (full.lower(), os.path.splitext(full)[0].lower())
