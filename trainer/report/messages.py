"""Errors on stderr, one line each; imports nothing, so that a typing mistake is answered at once."""

import os
import sys
import unicodedata
from collections.abc import Iterable


def print_problems(problems: Iterable[str], program: str = "train") -> None:
    """`train: error: ...`, in colour on a terminal unless NO_COLOR is set."""
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    mark = "\x1b[31merror:\x1b[0m" if colour else "error:"
    for problem in problems:
        # It may quote a file of somebody's, which is not to command the terminal.
        text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in problem)
        print(f"{program}: {mark} {text}", file=sys.stderr)
