"""Escaping of text that a spreadsheet would run as a formula, for tables that are written. Does not import torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from trainer.data.tables.numerals import parse_number

# What a spreadsheet runs as a formula, perhaps behind apostrophes of which one was added here.
FORMULA = re.compile(r"'*[=+\-@\t\r]")


def escaped(row: Iterable[Any]) -> list[Any]:
    """Return the cells of a row with an apostrophe before text that begins like a formula, unless it is a number.

    This is what OWASP advises against CSV injection: https://owasp.org/www-community/attacks/CSV_Injection
    """
    return [f"'{cell}" if isinstance(cell, str) and _is_formula(cell) else cell for cell in row]


def unescaped(cell: str) -> str:
    """Return the text that `escaped` was given."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def _is_formula(text: str) -> bool:
    return FORMULA.match(text) is not None and parse_number(text.lstrip("'")) is None
