"""Rows of a table as plain Python values, which pandas reads."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from trainer.errors import Problem, UserError

if TYPE_CHECKING:
    import pandas

Row = dict[str, Any]


class Table(list[Row]):
    """A list of rows, each a dict by column; all have the same columns.

    `table["valid_loss"]` returns a column as a list, `table[0]` and `table[1:3]` rows.
    """

    @overload
    def __getitem__(self, index: str) -> list[Any]: ...
    @overload
    def __getitem__(self, index: SupportsIndex) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Table: ...
    def __getitem__(self, index: str | SupportsIndex | slice) -> Any:
        if isinstance(index, str):
            return [row[index] for row in self]
        return Table(list(self)[index]) if isinstance(index, slice) else super().__getitem__(index)

    @property
    def columns(self) -> list[str]:
        """The names of the columns; empty for a table without rows."""
        return list(super().__getitem__(0)) if self else []

    def to_frame(self) -> pandas.DataFrame:
        """Return the table as a pandas DataFrame; empty cells are missing values.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            reason = "a DataFrame needs pandas, which is not installed"
            raise UserError(Problem("", reason, command="pip install 'trainer-cli[pandas]'")) from error
        return pandas.DataFrame(list(self), columns=self.columns)

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        rows = "".join(f"<tr>{''.join(map(_cell, row.values()))}</tr>" for row in self)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"<td>{escape(text)}</td>"
