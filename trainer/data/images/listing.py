"""Listed image files, with their splits and targets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path

from trainer.data.multilabel import LABEL_SEPARATOR
from trainer.data.source import Division

Target = float | list[float]  # a label or a number; 0 or 1 for each label, or several numbers


@dataclass
class Listing:
    """The image files of each split.

    Attributes:
        root: absolute and without symbolic links.
        shown: the same folder as the user typed it.
        classes: in the order of the labels; empty for a regression.
        splits: (path relative to the root, target) of the files of each split.
        selection: what was chosen of the folder: `data.classes`, or a table.
        notes: sentences about what was left out.
        task: see `Source`.
        table: the table that names the files; empty if folders do.
        lines: the line of each path in the table.
        division: how the training files are divided.
        places: of the files in the user's data, from 0; None if they are all of it, in order.
        unlabelled: the folder of test images without classes, relative to the root; empty if there is none.
        missing: path, target and reason of files that the table names and that are not there.
        targets: see `Source`.
    """

    root: Path
    shown: str
    classes: tuple[str, ...]
    splits: dict[str, list[tuple[str, Target]]]
    selection: tuple[str, ...] | None = None
    notes: list[str] = field(default_factory=list)
    task: str = "classification"
    table: str = ""
    lines: dict[str, int] = field(default_factory=dict)
    division: Division = Division()
    places: Sequence[int] | None = None
    unlabelled: str = ""
    missing: list[tuple[str, Target, str]] = field(default_factory=list)
    targets: tuple[str, ...] = ()

    @property
    def files(self) -> list[tuple[str, Target]]:
        """The files of all splits, in the order of the rows of decoded images."""
        return [file for files in self.splits.values() for file in files]

    def name(self, target: Target) -> str:
        """Return the class of a label, or the labels or numbers as text."""
        if isinstance(target, list):
            present = compress(self.classes, target)
            return LABEL_SEPARATOR.join(present) if self.classes else ", ".join(f"{number:g}" for number in target)
        return self.classes[int(target)] if self.classes else f"{target:g}"

    def describe(self, path: str, target: Target) -> str:
        """Return a file with its class, for a message."""
        shown = readable(os.path.join(self.shown, path))
        what = "labels" if isinstance(target, list) else "class"
        return f"{shown} ({what} {self.name(target)})" if self.classes else shown

    def place(self, path: str) -> str:
        """Return the row of the table that names a file, for a message; empty without a table."""
        return f"{self.table}: row {self.lines[path]}" if self.table else ""


def readable(name: str) -> str:
    """Return the name of a file as text, with what is not UTF-8 replaced."""
    return os.fsencode(name).decode(errors="replace")
