"""Random search in plain Hydra: `optim.lr=${loguniform:1e-4,1e-2} trial=range(10)`.

A draw is a function of (sweep.seed, trial, key), so it is the same in every process and after every resume, and one
more searched key does not change the others. The number that was drawn is what a run stores.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from trainer.config.limits import WHOLE, BoundedLoader
from trainer.config.overrides import plain
from trainer.data.tables.numerals import parse_number
from trainer.errors import Problem
from trainer.seeds import derive

SPELLING = re.compile(r"\$\{\s*(uniform|loguniform|integer|choice)\s*:([^{}]*)\}")


@dataclass(frozen=True)
class Range:
    """The range that the value of a key is drawn from.

    `values` are the choices of `choice`, or the two ends of `uniform`, `loguniform` and `integer`, which includes both.
    """

    kind: str
    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """Return the value at a position in the range, from 0 to below 1."""
        low, high = self.values[0], self.values[-1]
        if self.kind == "uniform":
            return low + share * (high - low)
        if self.kind == "loguniform":
            return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        if self.kind == "integer":
            return low + int(share * (high - low + 1))
        return self.values[int(share * len(self.values))]


def read(text: Any) -> Range | None:
    """Return the range that a text such as `${uniform:0,1}` describes; None for any other value.

    Raises:
        ValueError: the range is misspelt.
    """
    match = SPELLING.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        return None
    kind = match[1]
    values = tuple(_value(word) for word in match[2].split(","))
    if kind == "choice":
        if not match[2].strip():
            raise ValueError("values to choose from: ${choice:relu,tanh}")
        return Range(kind, values)
    number: type | tuple[type, ...] = int if kind == "integer" else (int, float)
    valid = len(values) == 2 and all(isinstance(v, number) and not isinstance(v, bool) for v in values)
    if not valid or not values[0] < values[1] or (kind == "loguniform" and values[0] <= 0):
        lowest = " above 0" if kind == "loguniform" else ""
        what = "whole numbers" if kind == "integer" else "numbers"
        raise ValueError(f"two {what}{lowest}, the smaller one first: ${{{kind}:1,10}}")
    return Range(kind, values)


def _value(word: str) -> Any:
    text = word.strip()
    if (number := parse_number(text)) is not None:  # YAML reads 1e-4 as text
        return int(text) if WHOLE.fullmatch(text) else number
    try:
        return yaml.load(text, BoundedLoader)  # a SafeLoader
    except yaml.YAMLError:
        return text


def _ranges(tree: DictConfig, problems: list[Problem]) -> dict[str, Range]:
    """Return all ranges in a composed tree by dotted key; misspelt ones become problems, and None in the tree."""
    by_key = {}
    for key, value in _walk(plain(tree, resolve=False)):
        try:
            if (described := read(value)) is not None:
                by_key[key] = described
        except ValueError as error:
            problems.append(Problem(key, f"expected {error}", given=str(value)))
            OmegaConf.update(tree, key, None, merge=False)
    return by_key


def _walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of everything that is not a container; items of lists have keys such as `model.hidden[0]`."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _walk(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _walk(inner, f"{path}[{number}]")
    else:
        yield path, value


def draw(tree: DictConfig, problems: list[Problem], suggest: Callable[[str, Range], Any] | None = None) -> None:
    """Replace every range in `tree`, which is mutated, by a value.

    Args:
        tree: the composed tree, with interpolations unresolved.
        problems: list to which misspelt ranges are added.
        suggest: chooses the values; default: they are drawn at random.
    """
    by_key = _ranges(tree, problems)
    trial, seed = OmegaConf.select(tree, "trial"), OmegaConf.select(tree, "sweep.seed")
    if by_key and suggest is None and not isinstance(trial, int):
        command = "train -m ... 'trial=range(10)'"
        problems.append(Problem(next(iter(by_key)), "a random draw needs the trial's number", command=command))
        trial = 0
    for key, space in by_key.items():
        # The share has the 53 bits that a float holds exactly.
        value = suggest(key, space) if suggest else space.at((derive(int(seed or 0), "draw", key, trial) >> 10) / 2**53)
        OmegaConf.update(tree, key, value, merge=False)
