"""A loss of power: what was written but not flushed is gone, and so may be renames in a folder that was not flushed."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

from faults.moments import place_of

_link = os.link  # before it is watched


class Disk:
    """What of the files below a folder is not on the disk yet. Folders that are created count as safe at once."""

    def __init__(self, root: Path) -> None:
        self.inside = str(root.resolve()) + os.sep
        self.dirty: dict[str, int] = {}  # path -> bytes that are safe
        self.renames: list[tuple[str, str, str]] = []  # from, to, and a copy of what was there before
        self.count = 0
        fsync, replace = os.fsync, os.replace

        def flushing(file: Any) -> None:
            fsync(file)
            place = place_of(file if isinstance(file, int) else file.fileno())
            self.dirty.pop(place, None)
            self.renames = [move for move in self.renames if os.path.dirname(move[1]) != place]

        def renaming(source: Any, target: Any, **options: Any) -> None:
            places = [
                place_of(path, options.get(folder)) for path, folder in ((source, "src_dir_fd"), (target, "dst_dir_fd"))
            ]
            old = self._copy(places[1])
            replace(source, target, **options)
            self.renames.append((*places, old))
            if places[0] in self.dirty:
                self.dirty[places[1]] = self.dirty.pop(places[0])

        os.fsync, os.replace = flushing, renaming

    def _copy(self, target: str) -> str:
        """Keep what a name stands for under another name, if there is anything, and return that."""
        self.count += 1
        old = f"{self.inside}.before-{os.getpid()}-{self.count}"
        if target.startswith(self.inside) and os.path.lexists(target):
            _link(target, old, follow_symlinks=False)
        return old

    def writes(self, place: str) -> None:
        """Notice that a file is about to grow."""
        place = self.inside + place
        if place not in self.dirty and os.path.exists(place):
            self.dirty[place] = os.path.getsize(place)

    def lose(self, chance: random.Random) -> None:
        """Leave of the files what a disk may hold after the power went."""
        for place, safe in self.dirty.items():
            if os.path.exists(place):
                os.truncate(place, safe)
        for source, target, old in reversed(self.renames[chance.randint(0, len(self.renames)) :]):
            if target.startswith(self.inside) and os.path.lexists(target):
                os.rename(target, source)
            if os.path.lexists(old):
                os.rename(old, target)
