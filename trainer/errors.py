"""The two ways in which a run can end badly without being our mistake; anything else shows its traceback."""

import difflib
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Breaks of lines and tabs become spaces: what is printed is a line.
_SPACES = dict.fromkeys(map(ord, "\t\n\v\f\r\x85\u2028\u2029"), " ")
# What a terminal obeys; what turns the direction of writing, so that a line reads as another; halves of characters.
_STEERING = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)]
_TABLE = dict.fromkeys(_STEERING, "\ufffd") | _SPACES


class UserError(ValueError):
    """Wrong configuration, data or usage: exit code 2, no traceback.

    Args:
        problems: one sentence each: where (key or path), what was given, what would be accepted.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(problems))


class RunFailed(RuntimeError):
    """The run itself could not go on (a full disk, damaged checkpoints): exit code 1, one sentence, no traceback."""


def raised_at(error: BaseException) -> str:
    """What was raised, and the file and line that raised it: `KeyError: 'x' in net.py, line 7`."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def show(value: Any) -> str:
    """A value as a user would type it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def did_you_mean(given: str, known: Iterable[str], prefix: str = "") -> str:
    """` Did you mean x?` with the nearest known name, or the empty string."""
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.6)
    return f" Did you mean {prefix}{near[0]}?" if near else ""


def printable(text: str) -> str:
    """One line without the characters that would steer a terminal: it may quote a file of somebody's."""
    return text if text.isprintable() else text.translate(_TABLE)


def print_problems(problems: Iterable[str], program: str = "train") -> None:
    """`train: error: ...`, in colour on a terminal unless NO_COLOR is set."""
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    mark = "\x1b[31merror:\x1b[0m" if colour else "error:"
    for problem in problems:
        print(f"{program}: {mark} {printable(problem)}", file=sys.stderr)
