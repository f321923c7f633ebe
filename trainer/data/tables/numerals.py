"""The spelling of numbers in tables and configurations: decimal digits, a point, an exponent. Does not import torch."""

from __future__ import annotations

import math
import re

NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


def parse_number(text: str) -> float | None:
    """Return the number that a text stands for, infinite beyond the range of a float; None for any other text.

    Python's `float` also accepts `1_000`, digits of other scripts, `inf` and `nan`.
    """
    return float(text) if NUMBER.fullmatch(text) else None


def is_misspelt(text: str) -> bool:
    """Return whether Python reads a finite number in a text in which `parse_number` reads none."""
    try:
        return math.isfinite(float(text)) and not NUMBER.fullmatch(text)
    except ValueError:
        return False
