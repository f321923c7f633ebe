"""Errors on stderr, one line each; imports nothing heavy, so that a typing mistake is answered at once."""

import os
import sys
from collections.abc import Iterable

from trainer.printable import printable


def print_problems(problems: Iterable[str], program: str = "train") -> None:
    """`train: error: ...`, in colour on a terminal unless NO_COLOR is set."""
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    mark = "\x1b[31merror:\x1b[0m" if colour else "error:"
    for problem in problems:
        print(f"{program}: {mark} {printable(problem)}", file=sys.stderr)
