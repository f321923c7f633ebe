"""The cells of a table as text, and the rows with missing values among them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.data.source import Division
from trainer.data.tables.cells import NoCell
from trainer.data.tables.columns import Cells
from trainer.data.tables.division import DivisionColumns, read_division
from trainer.data.tables.reading import stream
from trainer.data.tables.rows import BadRow, is_missing
from trainer.data.tables.targets import Targets
from trainer.errors import Problem, UserError, did_you_mean, show


@dataclass
class TextTable:
    """The cells of a delimited file, and the line that each row begins in.

    Attributes:
        places: of the rows among all rows of the file, from 0; None if they are all.
    """

    path: str
    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    places: Sequence[int] | None = None

    def cells(self, name: str) -> Cells:
        """Return the column of this name."""
        place = self.header.index(name)
        return Cells(name, [_stripped(row[place]) for row in self.rows], self.lines, self.path)

    def select(self, kept: Sequence[int]) -> TextTable:
        """Return the table with these rows alone."""
        rows, lines = [self.rows[i] for i in kept], [self.lines[i] for i in kept]
        return TextTable(self.path, self.header, rows, lines, kept)

    def check_columns(self, names: Mapping[str, Sequence[str]]) -> None:
        """Refuse names, {configuration key: columns}, that the table has not.

        Raises:
            UserError: there is no such column.
        """
        for key, columns in names.items():
            for name in columns:
                if name not in self.header:
                    advice = did_you_mean(name, self.header)
                    raise UserError(Problem(f"data.{key}", f"{self.path} has no column {name}", advice=advice))

    def problem(self, reason: str, *, advice: str = "", command: str = "", check: str = "") -> UserError:
        """Return the error of a mistake in this file."""
        return UserError(Problem("data.path", reason, given=self.path, advice=advice, command=command, check=check))


def _stripped(cell: str) -> str:
    """Return a cell without surrounding blanks; one of a declared type has none."""
    return cell.strip() if type(cell) is str else cell


@dataclass(frozen=True)
class TableOptions:
    """How a table is read, besides its features.

    Attributes:
        targets: the columns to predict, and their task.
        missing: `mean`, `median`, `drop` or None; see `table.csv_table`.
        dividing: the columns that divide the rows.
    """

    targets: Targets
    missing: str | None
    dividing: DivisionColumns

    def target_cells(self, table: TextTable) -> list[Cells]:
        """Return the columns to predict."""
        return [table.cells(name) for name in self.targets.names]

    def read_division(self, table: TextTable) -> Division:
        """Return how the rows are divided."""
        return read_division(table.cells, self.dividing)


def read(path: str, separator: str | None) -> TextTable:
    """Read a delimited file.

    Raises:
        UserError: no such file, no rows, columns of the same name, or a row of another length.
    """
    lines, rows = [], []
    for line, row in stream(path, separator, f"data.path={path}"):
        if isinstance(row, BadRow):
            raise UserError(Problem(f"row {line}", str(row), source=path, check="unusable columns"))
        lines.append(line)
        rows.append(row)
    if len(rows) < 2:
        reason = f"{len(rows)} lines; expected a header and a row for each sample"
        raise UserError(Problem("data.path", reason, given=path, check="unusable columns"))
    return TextTable(path, rows[0], rows[1:], lines[1:])


def chosen_columns(
    header: list[str], targets: Collection[str], features: list[str] | None, drop: list[str] | None
) -> list[str]:
    """Return the columns to predict from."""
    return [name for name in (features or header) if name not in targets and name not in (drop or [])]


def column_names(key: str, names: Any) -> list[str]:
    """Return the names in a list of columns, `data.<key>`, as text: Hydra and YAML read the name 2024 as a number.

    Raises:
        UserError: it is not a list of names.
    """
    if names is None:
        return []
    if not isinstance(names, (list, tuple)) or any(isinstance(name, (dict, list, tuple)) for name in names):
        raise UserError(Problem(f"data.{key}", "expected a list of columns, such as [age,height]", given=show(names)))
    return [show(name) for name in names]


def without_missing(table: TextTable, names: Iterable[str], options: TableOptions) -> TextTable:
    """Return the table without the rows that `data.missing=drop` leaves out; refuse missing values that are left."""
    missing, check = options.missing, "missing values"
    if odd := next(
        (text for cells in options.target_cells(table) for text in cells.texts if type(text) is NoCell), None
    ):
        raise table.problem(f"the target holds {odd}, which is no cell", check="unusable columns")
    lacks = {name: list(map(is_missing, table.cells(name).texts)) for name in names}
    lacks |= {cells.name: list(map(options.targets.lack, cells.texts)) for cells in options.target_cells(table)}
    if missing == "drop":
        keys = (options.dividing.group, options.dividing.order)
        lacks |= {name: list(map(is_missing, table.cells(name).texts)) for name in keys if name}
        kept = [i for i, row in enumerate(zip(*lacks.values(), strict=True)) if not any(row)]
        if not kept:
            advice = "Drop columns instead"
            raise table.problem("every row has a missing value", advice=advice, command="data.drop=[...]", check=check)
        return table.select(kept)
    counts = {name: count for name, rows in lacks.items() if (count := sum(rows))}
    if target := next(filter(counts.__contains__, options.targets.names), None):
        reason = f"{counts[target]} rows have no {target}, the target"
        raise table.problem(reason, advice="Leave them out", command="data.missing=drop", check=check)
    if counts and missing is None:
        reason = f"missing values: {', '.join(f'{name} {count}' for name, count in counts.items())}"
        raise table.problem(reason, advice="Choose data.missing=mean, median or drop.", check=check)
    return table
