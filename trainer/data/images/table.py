"""A table that names image files and their targets, as a data source."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from trainer.data.images.finder import FileFinder, NotFound, Outside
from trainer.data.images.listing import Listing, Target
from trainer.data.images.options import ImageOptions, check_switch
from trainer.data.images.pool import Progress
from trainer.data.images.source import MAX_NAMED, load_images
from trainer.data.images.walk import FOLLOW
from trainer.data.source import Source
from trainer.data.split import SPLITS
from trainer.data.tables.columns import Cells, TargetColumn
from trainer.data.tables.division import DivisionColumns, column_name, division_columns
from trainer.data.tables.table import TASKS, TableSchema
from trainer.data.tables.targets import Targets
from trainer.data.tables.text_table import TableOptions, TextTable, read, without_missing
from trainer.errors import Problem, UserError, check_names, did_you_mean, show

CHECK = "image files"  # of the doctor


def image_table(
    path: str,
    image: str,
    target: str | list[str],
    root: str | None = None,
    task: str | None = None,
    separator: str | None = None,
    missing: str | None = None,
    label_separator: str | None = None,
    group: str | None = None,
    order: str | None = None,
    split: str | None = None,
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
        target: the column to predict; several are labels or numbers, see `csv_table`.
        root: the folder of the images; default: that of the table.
        task: `binary`, `multiclass`, `multilabel` or `regression`; default: inferred from the target's values.
        separator: default: the most frequent one in the header line.
        missing: `drop` leaves out rows without a file or a target; default: they are refused.
        label_separator: the target holds the labels of an image, any number of them, with this text between two.
        group, order, split: columns that divide the rows; see `csv_table`.
        size, resize, interpolation, channels, range, follow_links, on_bad_image, cache, progress: see `image_folder`.
        schema: the classes of a trained model.

    Raises:
        UserError: the table or an image cannot be used; the message names row and file.
    """
    options = ImageOptions(size, resize, interpolation, channels, range, on_bad_image, cache)
    options.spec()  # before the table is read
    dividing = division_columns(group, order, split)
    table = ImageTable(path, image, target, root, task, separator, missing, dividing, follow_links, label_separator)
    return load_images(table.list(schema), options, progress)


@dataclass(frozen=True)
class ImageTable:
    """The arguments of `image_table` that choose files and targets."""

    path: Any
    image: Any
    target: Any
    root: str | None = None
    task: Any = None
    separator: str | None = None
    missing: Any = None
    dividing: DivisionColumns = DivisionColumns()
    follow_links: Any = False
    label_separator: Any = None

    @classmethod
    def of(cls, arguments: Mapping[str, Any], root: str | None) -> ImageTable:
        """Return the table of a configuration's arguments."""
        own = {f.name: arguments[f.name] for f in fields(cls) if f.name in arguments}
        dividing = division_columns(*map(arguments.get, ("group", "order", "split")))
        return cls(**own | {"root": root, "dividing": dividing})

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
                reason, advice = f"expected {', '.join(choices)}", did_you_mean(value, choices)
                raise UserError(Problem(f"data.{key}", reason, given=show(value), advice=advice))
        table = read(self.path, self.separator)
        check_names(f"data.path={self.path}", "column", table.header, check="unusable columns")
        if not os.path.isdir(self.folder or "."):
            raise UserError(Problem("data.root", "no such folder", given=self.folder))
        image, targets = column_name("image", self.image), Targets.of(self.target, self.task, self.label_separator)
        dividing = self.dividing if schema is None else self.dividing.among(table.header)
        named = {key: [name] for key, name in {"image": image, **dividing.by_key}.items()}
        table.check_columns({**named, "target": targets.names})
        options = TableOptions(targets, self.missing, dividing)
        return _Reader(self, without_missing(table, [image], options), options).listing(image, schema)


class _Reader:
    """Reader of the rows of one table."""

    def __init__(self, source: ImageTable, table: TextTable, options: TableOptions) -> None:
        self.source, self.table, self.options = source, table, options
        self.division, self.targets = options.read_division(table), options.target_cells(table)
        self.problems: list[Problem] = []
        self.missing: list[tuple[int, str, str]] = []  # row, path and reason
        self.row_of: dict[str, int] = {}
        self.repeated = 0

    def listing(self, image: str, schema: TableSchema | None) -> Listing:
        """Return the files that exist, and those that do not."""
        self._find(self.table.cells(image))
        self._refuse(image)
        rows = sorted([*self.row_of.values(), *(row for row, _, _ in self.missing)])
        parsed = self._parse(rows, schema)
        classes, notes = parsed.classes, [parsed.note] if parsed.note else []
        value: dict[int, Target] = dict(zip(rows, parsed.values.tolist(), strict=True))
        files = [(path, value[row]) for path, row in self.row_of.items()]
        self._check_classes(classes, files)
        if self.repeated:
            rows_repeat = "row that repeats" if self.repeated == 1 else "rows that repeat"
            notes.append(f"left out: {self.repeated:,} {rows_repeat} another one")
        places, kept = self.table.places, list(self.row_of.values())
        lines = {path: self.table.lines[row] for row, path, _ in self.missing}
        lines |= {path: self.table.lines[row] for path, row in self.row_of.items()}
        return Listing(
            root=Path(os.path.realpath(self.source.folder or ".")),
            shown=self.source.folder,
            classes=classes,
            splits={"train": files},
            selection=(os.path.realpath(self.source.path),),
            notes=notes,
            task=parsed.task,
            targets=parsed.targets,
            table=self.source.path,
            lines=lines,
            division=self.division.select(torch.tensor(kept)),
            places=[row if places is None else places[row] for row in kept],
            missing=[(path, value[row], reason) for row, path, reason in self.missing],
        )

    def _find(self, images: Cells) -> None:
        """Find the file of each row."""
        finder = FileFinder(self.source.folder, follow_links=self.source.follow_links)
        for row, name in enumerate(images.texts):
            try:
                path = finder.find(name)
            except Outside as error:
                self._problem(row, images.name, f"{name!r} {error}")
            except NotFound as error:
                self.missing.append((row, name, str(error)))
            else:
                first = self.row_of.setdefault(path, row)
                if first != row:
                    self._compare(images, row, first)

    def _compare(self, images: Cells, row: int, first: int) -> None:
        """Check that a row agrees with an earlier one that names the same file."""
        name, line, split = images.texts[row], images.lines[first], self.division.split
        differing = [cells for cells in self.targets if cells.texts[row] != cells.texts[first]]
        if differing:
            here, there = differing[0].texts[row], differing[0].texts[first]
            self._problem(row, images.name, f"{name} has {differing[0].name} {here}, and {there} in row {line}")
        elif split is not None and split.values[row] != split.values[first]:
            self._problem(row, images.name, f"{name} is in another split than in row {line}")
        self.repeated += 1

    def _problem(self, row: int, column: str, reason: str) -> None:
        key = f"row {self.table.lines[row]}, column {column}"
        self.problems.append(Problem(key, reason, source=self.source.path, check=CHECK))

    def _refuse(self, image: str) -> None:
        """Refuse problems of rows, and a column that names no file at all."""
        if len(self.problems) == len(self.table.rows) and not any(FOLLOW in each.reason for each in self.problems):
            raise self._all_outside(image)
        if self.problems:
            named, others = self.problems[:MAX_NAMED], len(self.problems) - MAX_NAMED
            more = Problem(self.source.path, f"{others:,} more rows like these", check=CHECK)
            raise UserError(*named, *([more] if others > 0 else []))
        if not self.row_of:
            name, where = self.missing[0][1], self.source.folder or "."
            reason = f"none of the {len(self.missing):,} files that it names is in {where}; the first is {name!r}"
            advice = "Choose another column, or the folder that the paths start from with data.root=DIR."
            raise UserError(Problem("data.image", reason, given=image, advice=advice, check=CHECK))

    def _all_outside(self, image: str) -> UserError:
        """Return the error of a column whose names all lead outside the folder."""
        names, command = self.table.cells(image).texts, ""
        advice = "Write the paths relative to data.root, without `..`."
        if all(map(os.path.isabs, names)):
            advice = "Name the folder that they are in"
            command = f"data.root={os.path.commonpath(list(map(os.path.dirname, names)))}"
        where = self.source.folder or "."
        reason = f"all {len(names):,} files that it names are outside {where}; the first is {names[0]!r}"
        return UserError(Problem("data.image", reason, given=image, advice=advice, command=command, check=CHECK))

    def _parse(self, rows: Sequence[int], schema: TableSchema | None) -> TargetColumn:
        """Return the targets of these rows, with the classes of a trained model."""
        cells = self.options.target_cells(self.table.select(rows))
        targets = self.options.targets
        return targets.parse(cells) if schema is None else targets.of_model(cells, schema.classes, schema.task)

    def _check_classes(self, classes: tuple[str, ...], files: Sequence[tuple[str, Target]]) -> None:
        """Refuse a training split, if a column says it, that lacks one of the classes or labels."""
        if (split := self.division.split) is None:
            return
        assigned = split.values[list(self.row_of.values())].tolist()
        train = [target for (_, target), code in zip(files, assigned, strict=True) if code == SPLITS.index("train")]
        present = {label for target in train for label in _labels(target)}
        if present and (absent := [name for label, name in enumerate(classes) if label not in present]):
            reason = f"no image of the train split has the class {absent[0]}"
            raise UserError(Problem("data.split", reason, given=split.name, check=CHECK))


def _labels(target: Target) -> list[float]:
    """Return the labels that a target has: its class, or the places of several labels."""
    return [place for place, one in enumerate(target) if one] if isinstance(target, list) else [target]
