"""Problems, and the two exceptions that end a command without a traceback."""

from __future__ import annotations

import difflib
import os
import sys
import traceback
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

_BREAKS = "\t\n\v\f\r\x85\u2028\u2029"  # line breaks and tabs become spaces: a message is printed as one line
# Unicode's general categories of control characters, of invisible ones such as marks of writing direction, which can
# disguise a line, of lone surrogates, and of line breaks.
_STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # part of Persian and Indic words and of emoji
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc", "can't start new thread")
MEMORY_ADVICE = "A smaller batch_size, data.resident=false and data.workers=0 take less."


@dataclass(frozen=True)
class Problem:
    """One mistake in a configuration, a file or a command line.

    `str(problem)` is the sentence that is printed, without the fields that are empty:
    `{source}: {key}={given}: {reason}. {advice}`.

    Attributes:
        key: the configuration key, path or word; empty if the reason says it all.
        reason: what is wrong, or "expected ...", without a full stop.
        given: the value as the user typed it.
        advice: what to do, in full sentences; a command at its end is not followed by a full stop.
        command: a command, override or flag that solves it; follows the reason (or the advice) after a colon.
        source: the file that contains it: YAML, run or checkpoint.
        check: the doctor's check that it belongs to, such as "label range".
    """

    key: str
    reason: str
    _: KW_ONLY
    given: str | None = None
    advice: str = ""
    command: str = ""
    source: str = ""
    check: str = ""

    def __str__(self) -> str:
        where = self.key if self.given is None else f"{self.key}={self.given}"
        reason = self.reason if self.command and not self.advice else f"{self.reason}."
        text = " ".join(filter(None, (reason, self.advice)))
        text = ": ".join(filter(None, (text, self.command)))
        return ": ".join(filter(None, (self.source, where, text)))

    def within(self, source: object) -> Problem:
        """Return the problem with the file or place that contains it, put before its own source if it has one."""
        return replace(self, source=f"{source}: {self.source}" if self.source else str(source))


class UserError(ValueError):
    """Wrong configuration, data or usage: exit code 2, no traceback.

    Args:
        problems: everything that is wrong.
    """

    def __init__(self, *problems: Problem) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.problems)))


class RunFailed(RuntimeError):
    """Failure of a run (a full disk, damaged checkpoints): exit code 1, one sentence, no traceback."""


class DataFailed(RunFailed):
    """Failure of the reading of data between two steps of a run, whose state can be saved."""


def out_of_memory(error: BaseException) -> str | None:
    """Return a sentence if memory has run out, else None; torch says so only in the text of a RuntimeError."""
    if isinstance(error, UserError | RunFailed):
        return None
    text = str(error).lower()
    if not isinstance(error, MemoryError) and not any(phrase in text for phrase in _NO_MEMORY):
        return None
    return f"out of memory. {MEMORY_ADVICE}"


def raised_at(error: BaseException) -> str:
    """Return the exception with the file and line that raised it: `KeyError: 'x' in net.py, line 7`."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def show(value: Any) -> str:
    """Return a value as a user would type it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def did_you_mean(name: object, names: Iterable[str], prefix: str = "") -> str:
    """Return `Did you mean x?` with the most similar of `names`, or an empty string."""
    near = nearest(name, names)
    return f"Did you mean {prefix}{near}?" if near else ""


def nearest(name: object, names: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the most similar of `names`, regardless of case; an empty string if all are less so than `cutoff`.

    `name` is what a user typed, which may have been read as a number.
    """
    by_folded: dict[str, str] = {}
    for each in names:
        by_folded.setdefault(each.casefold(), each)
    near = difflib.get_close_matches(str(name).casefold(), by_folded, n=1, cutoff=cutoff)
    return by_folded[near[0]] if near else ""


def suggestions(name: object, names: Sequence[str], prefix: str = "", most: int | None = None) -> str:
    """Return `Did you mean x? There is: x, y, z.`, with the first `most` of `names`."""
    return f"{did_you_mean(name, names, prefix)} There is: {', '.join(names[:most])}.".lstrip()


def first_few(names: Iterable[str], most: int = 3) -> str:
    """List the first names, and say how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def printable(text: str) -> str:
    """Return the text as one line without control characters, because it may quote an untrusted file."""
    if text.isprintable():
        return text
    return "".join(" " if c in _BREAKS else "\ufffd" if _steers(c) else c for c in text)


def _steers(character: str) -> bool:
    return unicodedata.category(character) in _STEERING and character not in _JOINERS


def check_names(key: str, what: str, names: Iterable[str], *, check: str = "") -> None:
    """Refuse names that could not be printed as they are; the message shows them escaped.

    Args:
        key: configuration key or path for the message.
        what: what is named, such as `class`.
        names: what the user calls them.
        check: the doctor's check.

    Raises:
        UserError: a name holds a control character, an invisible character or a lone surrogate.
    """
    if wrong := [name for name in names if printable(name) != name]:
        reason = f"{first_few(map(repr, wrong))}: the name of a {what} must be UTF-8 text without control characters"
        raise UserError(Problem(key, reason, advice=f"Rename the {what}.", check=check))


def print_problems(problems: Iterable[Problem | str], program: str = "train") -> None:
    """Print `train: error: ...` for each problem, in colour on a terminal unless NO_COLOR is set."""
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    mark = "\x1b[31merror:\x1b[0m" if colour else "error:"
    for problem in problems:
        print(f"{program}: {mark} {printable(str(problem))}", file=sys.stderr)
