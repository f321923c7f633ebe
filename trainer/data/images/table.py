"""A table that names image files and their targets, as a data source."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from trainer.data.images.finder import FileFinder, NotFound, Outside
from trainer.data.images.listing import Listing
from trainer.data.images.options import ImageOptions, check_switch
from trainer.data.images.pool import Progress
from trainer.data.images.source import MAX_NAMED, load_images
from trainer.data.source import Source
from trainer.data.split import SPLIT_NAMES, SPLITS
from trainer.data.tables.columns import Cells, parse_target
from trainer.data.tables.rows import is_missing
from trainer.data.tables.table import TASKS, TableSchema, TextTable, handle_missing, labels_of, read
from trainer.errors import Problem, UserError, check_names, did_you_mean, show, suggestions

CHECK = "image files"  # of the doctor


def image_table(
    path: str,
    image: str,
    target: str,
    split: str | None = None,
    root: str | None = None,
    task: str | None = None,
    separator: str | None = None,
    missing: str | None = None,
    size: int | list[int] | None = None,
    resize: int | None = None,
    interpolation: str | None = None,
    channels: int = 3,
    range: float | list[float] | None = None,
    follow_links: bool = False,
    on_bad_image: str = "error",
    cache: str | bool = "auto",
    progress: Progress | None = None,
    schema: TableSchema | None = None,
) -> Source:
    """Load the images that a delimited text file names, with their classes or numbers.

    Args:
        path: the table, which has a header line.
        image: its column of image files: paths below `root`, with or without suffix.
        target: the column to predict.
        split: the column that says train, valid or test.
        root: the folder of the images; default: that of the table.
        task: `binary`, `multiclass` or `regression`; default: inferred from the target's values.
        separator: default: the most frequent one in the header line.
        missing: `drop` leaves out rows without a file or a target; default: they are refused.
        size, resize, interpolation, channels, range, follow_links, on_bad_image, cache, progress: see `image_folder`.
        schema: the classes of a trained model.

    Raises:
        UserError: the table or an image cannot be used; the message names row and file.
    """
    options = ImageOptions(size, resize, interpolation, channels, range, on_bad_image, cache)
    options.spec()  # before the table is read
    table = ImageTable(path, image, target, split, root, task, separator, missing, follow_links)
    return load_images(table.list(schema), options, progress)


@dataclass(frozen=True)
class ImageTable:
    """The arguments of `image_table` that choose files and targets."""

    path: Any
    image: Any
    target: Any
    split: Any = None
    root: str | None = None
    task: Any = None
    separator: str | None = None
    missing: Any = None
    follow_links: Any = False

    @classmethod
    def of(cls, arguments: dict[str, Any], root: str | None) -> ImageTable:
        """Return the table of a configuration's arguments."""
        return cls(**{f.name: arguments[f.name] for f in fields(cls) if f.name in arguments} | {"root": root})

    @property
    def folder(self) -> str:
        """The folder of the images as the user would write it; empty for the current one."""
        return os.path.dirname(self.path) if self.root is None else self.root

    def list(self, schema: TableSchema | None = None) -> Listing:
        """Return the files, in the order of the table, with their targets; no image is opened.

        Raises:
            UserError: the table cannot be used, a name leads outside the folder, or a file has two targets.
        """
        check_switch("follow_links", self.follow_links)
        for key, value, choices in (("task", self.task, TASKS), ("missing", self.missing, ("drop",))):
            if value is not None and value not in choices:
                advice = did_you_mean(value, choices)
                raise UserError(
                    Problem(f"data.{key}", f"expected {', '.join(choices)}", given=show(value), advice=advice)
                )
        table = read(self.path, self.separator)
        check_names(f"data.path={self.path}", "column", table.header, check="unusable columns")
        if not os.path.isdir(self.folder or "."):
            raise UserError(Problem("data.root", "no such folder", given=self.folder))
        image, target = (self._column(table, key) for key in ("image", "target"))
        table = handle_missing(table, [image], target, self.missing)
        return _Reader(self, table, table.cells(image)).listing(table.cells(target), schema)

    def _column(self, table: TextTable, key: str) -> str:
        """Return the name of the column `data.<key>`."""
        name = getattr(self, key)
        if isinstance(name, (dict, list, tuple)):
            raise UserError(Problem(f"data.{key}", "expected the name of one column", given=show(name)))
        name = show(name)
        if name not in table.header:
            advice = suggestions(name, table.header)
            raise UserError(Problem(f"data.{key}", f"{self.path} has no such column", given=name, advice=advice))
        return name

    def splits(self, table: TextTable) -> Sequence[str]:
        """Return the split of each row.

        Raises:
            UserError: a cell says none.
        """
        if self.split is None:
            return ["train"] * len(table.rows)
        cells = table.cells(self._column(table, "split"))
        for text, line in zip(cells.texts, cells.lines, strict=True):
            if text.lower() not in SPLIT_NAMES:
                given = "the cell is empty" if is_missing(text) else f"{text!r} is no split"
                reason = f"{given}; expected train, valid or test"
                raise UserError(Problem(f"row {line}, column {cells.name}", reason, source=self.path, check=CHECK))
        splits = [SPLIT_NAMES[text.lower()] for text in cells.texts]
        if "train" not in splits:
            raise UserError(Problem("data.split", "no row is of the train split", given=cells.name))
        return splits


class _Reader:
    """Reader of the rows of one table."""

    def __init__(self, source: ImageTable, table: TextTable, images: Cells) -> None:
        self.source, self.table, self.images = source, table, images
        self.splits = source.splits(table)
        self.problems: list[Problem] = []
        self.missing: list[tuple[int, str, str]] = []  # row, path and reason
        self.row_of: dict[str, int] = {}
        self.repeated = 0

    def listing(self, targets: Cells, schema: TableSchema | None) -> Listing:
        """Return the files that exist, and those that do not."""
        self._find(targets)
        self._refuse()
        rows = sorted([*self.row_of.values(), *(row for row, _, _ in self.missing)])
        kept = Cells(targets.name, [targets.texts[r] for r in rows], [targets.lines[r] for r in rows], targets.path)
        classes, values, task, notes = _parse(kept, self.source.task, schema)
        if self.repeated:
            rows_repeat = "row that repeats" if self.repeated == 1 else "rows that repeat"
            notes.append(f"left out: {self.repeated:,} {rows_repeat} another one")
        value = dict(zip(rows, values, strict=True))
        splits: dict[str, list[tuple[str, float]]] = {}
        for name in SPLITS:
            files = [(path, value[row]) for path, row in self.row_of.items() if self.splits[row] == name]
            if files:
                splits[name] = files
        self._check_classes(classes, splits)
        lines = {path: self.images.lines[row] for path, row in self.row_of.items()}
        lines |= {path: self.images.lines[row] for row, path, _ in self.missing}
        missing = [(path, value[row], reason) for row, path, reason in self.missing]
        folder = self.source.folder
        selection = (os.path.realpath(self.source.path),)
        return Listing(
            Path(folder).resolve(), folder, classes, splits, selection, notes, task, self.source.path, lines, missing
        )

    def _find(self, targets: Cells) -> None:
        """Find the file of each row."""
        finder = FileFinder(self.source.folder, follow_links=self.source.follow_links)
        for row, name in enumerate(self.images.texts):
            try:
                path = finder.find(name)
            except Outside as error:
                self._problem(row, f"{name!r} {error}")
            except NotFound as error:
                self.missing.append((row, name, str(error)))
            else:
                first = self.row_of.setdefault(path, row)
                if first != row:
                    self._repeat(row, first, targets)

    def _repeat(self, row: int, first: int, targets: Cells) -> None:
        """Note that a row names the file of an earlier one, which must agree with it."""
        name, line = self.images.texts[row], self.images.lines[first]
        here, there = targets.texts[row], targets.texts[first]
        if here != there:
            self._problem(row, f"{name} has {targets.name} {here}, and {there} in row {line}")
        elif self.splits[row] != self.splits[first]:
            self._problem(row, f"{name} is in the {self.splits[row]} split, and in {self.splits[first]} in row {line}")
        self.repeated += 1

    def _problem(self, row: int, reason: str) -> None:
        key = f"row {self.images.lines[row]}, column {self.images.name}"
        self.problems.append(Problem(key, reason, source=self.source.path, check=CHECK))

    def _refuse(self) -> None:
        """Refuse problems of rows, and a column that names no file at all."""
        if self.problems:
            named, others = self.problems[:MAX_NAMED], len(self.problems) - MAX_NAMED
            more = Problem(self.source.path, f"{others:,} more rows like these", check=CHECK)
            raise UserError(*named, *([more] if others > 0 else []))
        if not self.row_of:
            name, where = self.missing[0][1], self.source.folder or "."
            reason = f"none of the {len(self.missing):,} files that it names is in {where}; the first is {name!r}"
            advice = "Choose another column, or the folder that the paths start from with data.root=DIR."
            raise UserError(Problem("data.image", reason, given=self.images.name, advice=advice, check=CHECK))

    def _check_classes(self, classes: tuple[str, ...], splits: dict[str, list[tuple[str, float]]]) -> None:
        """Refuse a training split without files, or without one of the classes."""
        present = {target for _, target in splits.get("train", ())}
        absent = [name for label, name in enumerate(classes) if label not in present]
        if not present or (absent and self.source.split is not None):
            reason = f"no image of the train split has the class {absent[0]}" if absent else "the train split is empty"
            raise UserError(Problem("data.split", reason, given=show(self.source.split), check=CHECK))


def _parse(
    cells: Cells, task: str | None, schema: TableSchema | None
) -> tuple[tuple[str, ...], list[float], str, list[str]]:
    """Return the classes, the target of each row, the task, and sentences for the header."""
    if schema is not None and schema.classes:
        return schema.classes, labels_of(cells, schema.classes).tolist(), "classification", []
    parsed = parse_target(cells, "regression" if schema is not None and schema.classes is not None else task)
    return parsed.classes, parsed.values.tolist(), parsed.task, [parsed.note]
