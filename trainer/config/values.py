"""Conversion of typed values to the types and ranges of the configuration's fields."""

from __future__ import annotations

import math
import operator
import re
import types
import typing
from collections.abc import Iterable
from typing import Any

from trainer.errors import show

LARGEST = 2**64
SWITCHES = {"true": True, "false": False}
BOUNDS = {
    "ge": ("from", operator.ge),
    "gt": ("above", operator.gt),
    "le": ("up to", operator.le),
    "lt": ("below", operator.lt),
}


def convert(value: Any, hint: Any, limits: typing.Mapping[str, Any]) -> Any:
    """Convert a value to the type `hint`, within `limits`.

    Raises:
        ValueError: the value does not fit; the text completes the sentence "expected ...".
    """
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    word = limits.get("word")
    if types.NoneType in options and (value == word or (value is None and word in (None, "none"))):
        return None
    kind = typing.get_origin(options[0]) or options[0]
    if kind is Any:
        return value
    null = " or null" if types.NoneType in options and word is None else ""
    if kind is list and typing.get_args(options[0]) == (float,):
        return _numbers(value, limits)
    if kind is list:
        return _patterns(value)
    if kind is dict:
        if not isinstance(value, dict):
            raise ValueError("a mapping {name: [values]}" + null)
        return value
    if kind in (str, Duration) or "choices" in limits or "pattern" in limits:
        text = _text(value, limits, null)
        if kind is Duration:
            return Duration.parse(text)
        if kind is str or text in SWITCHES:
            return text if kind is str else SWITCHES[text]
        if int(text) > limits.get("le", LARGEST):
            raise ValueError(limits["expected"] + null)
        return int(text)
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError("true or false")
        return value
    return _number(value, kind, limits, null)


def _patterns(value: Any) -> list[str]:
    if value is None or value == "none":
        return []
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in items):
        raise ValueError("a list of patterns such as [conv1.*]")
    return items


def _numbers(value: Any, limits: typing.Mapping[str, Any]) -> list[float]:
    items = value if isinstance(value, list) else [value]
    if not items:
        raise ValueError("a number for each channel such as [0.5,0.5,0.5]")
    return [float(_number(item, float, limits, "")) for item in items]


def _text(value: Any, limits: typing.Mapping[str, Any], null: str) -> str:
    if value is None or isinstance(value, (dict, list)):
        raise ValueError((one_of(limits["choices"]) if "choices" in limits else limits.get("expected", "text")) + null)
    text = show(value)
    if "choices" in limits and text not in limits["choices"]:
        raise ValueError(one_of(limits["choices"]) + null)
    if "pattern" in limits and not re.fullmatch(limits["pattern"], text):
        raise ValueError(limits["expected"] + null)
    return text


def one_of(choices: Iterable[str]) -> str:
    """Return `a, b or c`."""
    *most, last = choices
    return f"{', '.join(most)} or {last}"


def _number(value: Any, kind: type, limits: typing.Mapping[str, Any], null: str) -> int | float:
    bounds = {name: bound for name, bound in BOUNDS.items() if name in limits}
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if (
        is_number
        and (abs(value) < LARGEST or (isinstance(value, float) and math.isfinite(value)))
        and (kind is float or value == int(value))
        and all(compare(value, limits[name]) for name, (_, compare) in bounds.items())
    ):
        return kind(value)
    within = " and ".join(f"{word} {limits[name]}" for name, (word, _) in bounds.items())
    if "ge" in bounds:
        within = within.replace(" and up to ", " to ")
    raise ValueError(" ".join(filter(None, ["a whole number" if kind is int else "a number", within])) + null)


class Duration(typing.NamedTuple):
    """A duration such as `1ep`, `200st` or `5min`."""

    amount: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Duration:
        match = re.fullmatch(r"([0-9]+)(ep|st|min)", text)
        assert match, text
        return cls(int(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.amount}{self.unit}"
