"""Cells that a file declares as something else than text to be read: texts, and values that are no cells."""

from __future__ import annotations


class Text(str):
    """A cell of a column that its file declares as text or categories: no number, whatever it looks like."""

    __slots__ = ()


class NoCell(str):
    """A value that no column can hold, such as a list; the text says what it is."""

    __slots__ = ()
