"""Limits of a configuration: its size, its depth, and the spelling of its numbers. Does not import torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from trainer.data.tables.numerals import NUMBER, is_misspelt
from trainer.errors import Problem, UserError
from trainer.files import open_regular

MOST_BYTES = 1_000_000  # of a file
MOST_VALUES = 20_000
DEEPEST = 20  # Hydra and OmegaConf reach Python's recursion limit at about 80
MOST_DIGITS = 300  # of a number: no float is larger
WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
NOT_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
SPELLING = "numbers are written in decimal digits, such as 1000 or 1e-3, and other text in quotes"


class BoundedLoader(yaml.SafeLoader):
    """YAML loader that refuses what a stored configuration has no use for, before it takes time or memory.

    Aliases (`*name`) are such a thing: a few lines of them can expand to gigabytes. A number must be written as this
    program writes it: YAML 1.1 reads `010` as 8, `1:30` as 90 and `1_0` as 10. Methods raise YAMLError for these, for
    too many values and for values that are nested too deep.
    """

    ALIASES = False

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._composed = 0
        self._measures: dict[int, tuple[int, int]] = {}  # of each complete node: values and levels

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node, and count what is in it."""
        is_alias = self.check_event(yaml.AliasEvent)
        if is_alias and not self.ALIASES:
            raise yaml.YAMLError("aliases (*name) are not accepted in a stored configuration")
        self._depth, self._composed = self._depth + 1, self._composed + 1
        self._refuse(self._composed, self._depth)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not is_alias:
            self._measures[id(node)] = self._measure(node)
        elif id(node) not in self._measures:
            raise yaml.YAMLError("a value that contains itself")
        return node

    def _measure(self, node: Any) -> tuple[int, int]:
        if isinstance(node, yaml.ScalarNode):
            self.check_scalar(node)
            return 1, 1
        children = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
        measures = [self._measures[id(child)] for child in children]
        values, levels = 1 + sum(m[0] for m in measures), 1 + max((m[1] for m in measures), default=0)
        self._refuse(values, levels)
        return values, levels

    def _refuse(self, values: int, levels: int) -> None:
        if values > MOST_VALUES:
            raise yaml.YAMLError(f"more than {MOST_VALUES:,} values, where an alias counts as all that it stands for")
        if levels > DEEPEST:
            raise yaml.YAMLError(f"values nested more than {DEEPEST} deep")

    def check_scalar(self, node: yaml.ScalarNode) -> None:
        """Check the spelling of a number, and the depth of an interpolation."""
        text = node.value
        if node.tag in NUMBERS and len(text) > MOST_DIGITS:
            raise yaml.YAMLError(f"{_line(node)}: a number of {len(text):,} digits; at most {MOST_DIGITS} are accepted")
        pattern = WHOLE if node.tag == NUMBERS[0] else NUMBER
        if node.tag in NUMBERS and not (pattern.fullmatch(text) or NOT_FINITE.fullmatch(text)):
            raise yaml.YAMLError(f"{_line(node)}: {text}: {SPELLING}")
        if "${" in text and nesting(text) > DEEPEST:
            raise yaml.YAMLError(f"{_line(node)}: brackets nested more than {DEEPEST} deep")


class TypedLoader(BoundedLoader):
    """The same for files that a user wrote, where an alias is accepted, and counts as all that it stands for.

    OmegaConf, which reads them, takes more texts for numbers than YAML does, such as `1_0e3`.
    """

    ALIASES = True

    def check_scalar(self, node: yaml.ScalarNode) -> None:
        super().check_scalar(node)
        if node.style is None and is_misspelt(node.value):
            raise yaml.YAMLError(f"{_line(node)}: {node.value}: {SPELLING}")


def check_file(path: Path) -> None:
    """Check a YAML file that a user wrote; a link is followed.

    Raises:
        UserError: it cannot be read, is too large, or is not UTF-8.
        YAMLError: it is no YAML, or beyond the limits.
    """
    with open_regular(path, follow=True) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UserError(Problem(str(path), f"larger than the {MOST_BYTES:,} bytes accepted"))
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UserError(Problem(str(path), f"not UTF-8 text ({error.reason})")) from error
    yaml.compose(text, TypedLoader)


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


def nesting(text: str) -> int:
    """Return how deep the brackets of a text are nested; in quotes they count too, for they may be interpolations."""
    deepest = depth = 0
    for character in text:
        depth = max(0, depth + (character in "[{(") - (character in ")}]"))
        deepest = max(deepest, depth)
    return deepest
