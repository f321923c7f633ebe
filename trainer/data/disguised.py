"""Numbers that are written so that `float` cannot read them: decimal commas, units, commas in thousands, dates."""

from __future__ import annotations

import re
from collections.abc import Sequence

KINDS = (  # what most cells match first; '12,345' everywhere is taken for thousands
    (r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?", "numbers with commas in thousands", "Write them without commas"),
    (r"[-+]?\d*,\d+([eE][-+]?\d+)?|[-+]?\d+", "numbers with decimal commas", "Write them with points"),
    (r"\d{4}[-/.]\d\d?[-/.]\d\d?.*|\d\d?[-/.]\d\d?[-/.](\d{4}|\d\d)", "dates", "Write them as numbers, such as days"),
    (r"[-+]?\d+(\.\d+)?\s*[^\W\d]+|[-+]?\d+(\.\d+)?\s*[%°]\w*", "numbers with a unit", "Write the numbers alone"),
    (r"[^\W\d]+\s*[-+]?\d+(\.\d+)|[$€£¥]\s*[-+]?\d+(\.\d+)?", "numbers with a unit", "Write the numbers alone"),
)
SHARE = 0.9  # of the cells


def disguised(cells: Sequence[str]) -> tuple[str, str] | None:
    """What numbers these texts hold, and what to do about it; None where most of them hold none."""
    for pattern, what, advice in KINDS:
        like = [cell for cell in cells if re.fullmatch(pattern, cell)]
        if len(like) >= SHARE * len(cells):
            return f"{what} ({like[0]!r})", advice
    return None
