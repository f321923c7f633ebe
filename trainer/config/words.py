"""Checks of the words of a command line, `key=value`, that need no parser. Imports neither torch nor Hydra."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from trainer.config.limits import DEEPEST, MOST_DIGITS, nesting
from trainer.data.tables.numerals import is_misspelt
from trainer.errors import Problem

LONGEST_SHOWN = 60  # characters
QUOTED = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
BETWEEN = re.compile(r"[][{}(),:=\s]+")  # what stands between the values of a list, a mapping or a function


def refuse_word(word: str) -> Problem | None:
    """Return a problem for a word that Hydra would read as something else, or not at all; None for the others.

    Hydra reads `1_0` as 10, and fails on digits of other scripts, on thousands of digits and on a hundred brackets.
    """
    key, _, value = word.partition("=")
    shown = key if len(key) <= LONGEST_SHOWN else f"{key[:LONGEST_SHOWN]}..."
    if (depth := key.count(".") + nesting(value)) > DEEPEST:
        return Problem(shown, f"values nested {depth} deep; at most {DEEPEST} levels are accepted")
    for text in BETWEEN.split(QUOTED.sub("", value)):
        if len(text) > MOST_DIGITS and not text.strip("0123456789_+-"):
            return Problem(shown, f"a number of {len(text):,} digits; at most {MOST_DIGITS} are accepted")
        if is_misspelt(text):
            reason = "expected a number in decimal digits, such as 1000, or text in quotes"
            command = f"'{key}=\"{text}\"'" if text == value else ""
            return Problem(shown, reason, given=value, advice="As text" if command else "", command=command)
    return None


def split_words(words: Iterable[str]) -> tuple[list[str], list[Problem]]:
    """Return the overrides among words without flags, and a problem for each other word, which has a dash."""
    overrides, problems, rest = [], [], list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        name, _, value = word.lstrip("-").partition("=")
        if not value and rest and not rest[0].startswith("-") and "=" not in rest[0]:
            value = rest.pop(0)
        command = f"{name.replace('-', '_')}={value or '...'}"
        problems.append(Problem(word, "no such flag", advice="Write keys without dashes", command=command))
    return overrides, problems


def repeated(words_by_key: Mapping[str, Sequence[str]]) -> list[Problem]:
    """Return a problem for each key that has several words."""
    return [
        Problem(key, f"given more than once: {', '.join(words)}", advice="Choose one.")
        for key, words in words_by_key.items()
        if len(words) > 1
    ]


def quoted(word: str) -> str:
    """Return a word in Hydra's grammar: the folder of a sweep's job, 000-optim.lr=0.1,seed=0, gets quotes."""
    name, _, value = word.partition("=")
    if name != "resume" or value[:1] in ("'", '"') or not set("=,() ") & set(value) or "'" in value:
        return word
    return f"resume='{value}'"


def unreadable(word: str) -> Problem:
    """Return the problem of a word that Hydra cannot parse."""
    if "=" not in word and not word.startswith("~"):
        return Problem(word, "expected key=value, such as model=lenet5 or epochs=10")
    advice = "Quote what your shell or Hydra treats specially: 'key=\"a b\"'."
    return Problem(word, "not readable as key=value", advice=advice)
