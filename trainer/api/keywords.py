"""Keyword arguments as the words of a command line: `optim={"lr": 1e-3}` becomes `optim.lr=0.001`. No torch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from trainer.errors import Problem

PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")  # text that needs no quotes, unless it is one of these
VALUES = ("true", "false", "null", "inf", "nan")
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")  # of an override; other keys stand in a mapping
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./$%*@?|+-]*( +[A-Za-z0-9_./$%*@?|+-]+)*")  # of such a key, never in quotes


def words_of(keywords: Mapping[str, Any]) -> tuple[list[str], list[Problem]]:
    """Return an override for each value of the keyword arguments, in Hydra's grammar, and the problems of the others.

    The overrides set exactly these values: text is quoted where it would be read as something else, and `${` in it
    is no interpolation. Mappings become an override for each of their values.
    """
    words, problems = [], []
    for key, value in _leaves(keywords):
        try:
            words.append(f"{key}={_literal(value)}")
        except TypeError as error:
            reason = f"expected a number, text, bool, None, list or dict, not {error}"
            problems.append(Problem(key, reason))
    return words, problems


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values; a mapping whose keys an override cannot spell is a value."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value and all(isinstance(k, str) and KEY.fullmatch(k) for k in value):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _literal(value: Any) -> str:
    """Return a value in Hydra's grammar.

    Raises:
        TypeError: with the name of its type, if a configuration cannot hold it.
    """
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a scalar of NumPy or torch
        value = value.item()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            return value if PLAIN.fullmatch(value) and value.lower() not in VALUES else _quoted(value)
        case list() | tuple() | range():
            return f"[{','.join(map(_literal, value))}]"
        case Mapping():
            return f"{{{','.join(f'{_name(k)}:{_literal(v)}' for k, v in value.items())}}}"
    raise TypeError(type(value).__name__)


def _name(key: Any) -> str:
    """Return a key of a mapping in Hydra's grammar."""
    if type(key) is int:
        return str(key)
    if not isinstance(key, str) or not NAME.fullmatch(key) or key.lower() in VALUES:
        raise TypeError(f"a dict with the key {key!r}")
    return key.replace(" ", "\\ ")


def _quoted(text: str) -> str:
    """Return text in single quotes; backslashes count in Hydra only before a quote, in OmegaConf before `${`."""
    if "${" in text:
        text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)\Z", r"\1\1", text) + "'"
