"""Excel workbooks, read by openpyxl (the extra `tables`). Formulas have the value that the spreadsheet stored."""

from __future__ import annotations

import datetime
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, Any

from trainer.data.tables.cells import NoCell
from trainer.data.tables.rows import BadRow
from trainer.errors import Problem, UserError

MOST_CELLS = 2**27
CHUNK = 2**20
# What openpyxl raises for the parts of a workbook that are missing or damaged; SyntaxError is XML's ParseError.
DAMAGES = (zipfile.BadZipFile, zlib.error, LookupError, ValueError, TypeError, AttributeError, SyntaxError, EOFError)
FORMULAS = (b"<f>", b"<f ", b"<f/>")


def workbook_rows(file: IO[bytes], where: str) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Yield (row of the sheet, cells) of the only sheet that is not empty, header first.

    Raises:
        UserError: openpyxl is not installed, several sheets hold something, or the workbook is damaged or too large.
    """
    try:
        import openpyxl
    except ImportError as error:
        reason = f"{error.name} is not installed, which reads Excel workbooks"
        raise UserError(Problem(where, reason, command="pip install 'trainer-cli[tables]'")) from error
    try:
        with warnings.catch_warnings(action="ignore"):  # about styles and validations, which are not read
            book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
            sheet, formulas = _only_sheet(book, where), None
            if _has_formulas(file):
                spelled = openpyxl.load_workbook(file, read_only=True, keep_links=False)
                formulas = spelled[sheet.title].iter_rows(values_only=True)
        yield from _rows(sheet.iter_rows(values_only=True), formulas, where)
    except DAMAGES as error:
        if isinstance(error, (UserError, BadRow)):
            raise
        raise UserError(Problem(where, f"the workbook is damaged ({type(error).__name__}: {error})")) from error


def _has_formulas(file: IO[bytes]) -> bool:
    """Return whether a sheet may hold a formula, by the text of its XML."""
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if not name.startswith("xl/worksheets/"):
                continue
            with archive.open(name) as sheet:
                before = b""
                while chunk := sheet.read(CHUNK):
                    if any(mark in before + chunk for mark in FORMULAS):
                        return True
                    before = chunk[-4:]
    return False


def _only_sheet(book: Any, where: str) -> Any:
    sheets = [sheet for sheet in book.worksheets if any(map(_is_used, sheet.iter_rows(max_row=2, values_only=True)))]
    if not sheets:
        raise UserError(Problem(where, "the workbook has no sheet with a table in its first rows"))
    if len(sheets) > 1:
        names = ", ".join(sheet.title for sheet in sheets)
        reason = f"{len(sheets)} sheets of the workbook hold something: {names}"
        raise UserError(Problem(where, reason, advice="Keep one, or save the one to use as CSV."))
    return sheets[0]


def _is_used(row: Sequence[Any]) -> bool:
    return any(value is not None for value in row)


def _rows(
    values: Iterator[Sequence[Any]], formulas: Iterator[Sequence[Any]] | None, where: str
) -> Iterator[tuple[int, list[str] | BadRow]]:
    width = cells = 0
    for line, row in enumerate(values, 1):
        spelled = next(formulas) if formulas is not None else row
        cells += max(len(row), 1)
        if cells > MOST_CELLS:
            raise UserError(Problem(where, f"more than {MOST_CELLS:,} cells, empty ones included, are not accepted"))
        if not _is_used(spelled):
            continue
        if not width:
            width = max(i for i, value in enumerate(row, 1) if value is not None)
        pairs = enumerate(zip(row, spelled, strict=True), 1)
        formula = next((column for column, (value, cell) in pairs if value is None and cell is not None), 0)
        if formula:
            yield (
                line,
                BadRow(f"the formula in column {formula} has no stored value; save the file in a spreadsheet"),
            )
        elif _is_used(row[width:]):
            yield line, BadRow(f"a cell to the right of the header's {width} columns")
        else:
            yield line, [_cell(value) for value in (*row[:width], *[None] * (width - len(row)))]


def _cell(value: Any) -> str:
    """Return the value of a cell as text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ")
    if isinstance(value, (int, float, str)):
        return str(value).strip()
    return value.isoformat() if isinstance(value, datetime.date) else NoCell(f"a {type(value).__name__}")
