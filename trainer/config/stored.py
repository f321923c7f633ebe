"""The config.yaml of a run folder, an untrusted file: read as plain values, without resolving interpolations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from trainer.errors import Problem, UserError
from trainer.files import read_text

MAX_CONFIG_BYTES = 1_000_000
LARGEST_BITS = 1024  # of a whole number: no float is larger
CHOICES = "# chosen: "
TRUST = "If you trust it, add trust=true."


def read_choices(path: Path) -> dict[str, str]:
    """Return the chosen options that config.yaml names, for display only."""
    with open(path / "config.yaml", encoding="utf-8") as file:
        first = file.readline(10_000)
    if not first.startswith(CHOICES):
        return {}
    return dict(re.findall(r"(\w+)=([\w.-]+)", first))


class _NoAliases(yaml.SafeLoader):
    """YAML loader that refuses aliases: a few lines of them can expand to gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not accepted in a stored configuration")
        return super().compose_node(parent, index)


def read_config(path: Path, *, trusted: bool) -> dict[str, Any]:
    """Return the tree of a run folder's config.yaml; plain values only.

    Raises:
        UserError: the file is not a configuration, or it reads environment variables and is not trusted.
    """
    file = path / "config.yaml"
    text = read_text(file, MAX_CONFIG_BYTES)
    tree = parse_config(text, file)
    if not trusted:
        refuse_interpolation(text, file)
    return tree


def parse_config(text: str, where: Path) -> dict[str, Any]:
    """Return the tree of a stored configuration, plain values only, interpolations as text.

    Raises:
        UserError: the text is not a configuration.
    """
    if len(text) > MAX_CONFIG_BYTES:
        raise UserError(
            Problem(str(where), f"its configuration is larger than the {MAX_CONFIG_BYTES:,} bytes accepted")
        )
    try:
        tree = yaml.load(text, _NoAliases)  # a SafeLoader
        _check_numbers(tree)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(Problem(str(where), f"not readable: {' '.join(str(error).split())}")) from error
    if not isinstance(tree, dict):
        raise UserError(Problem(str(where), f"expected a configuration, found {type(tree).__name__}"))
    return tree


def _check_numbers(value: Any) -> None:
    """Refuse huge whole numbers; Python cannot even show one of thousands of digits.

    Raises:
        ValueError: a number is too large for a configuration.
    """
    if isinstance(value, dict):
        for pair in value.items():
            _check_numbers(pair)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_numbers(inner)
    elif isinstance(value, int) and value.bit_length() > LARGEST_BITS:
        raise ValueError(f"a whole number of {value.bit_length():,} bits; at most {LARGEST_BITS} are accepted")


def refuse_interpolation(text: str, where: Path) -> None:
    """Refuse a stored configuration that would read environment variables when it is resolved.

    Raises:
        UserError: it contains `${`.
    """
    if "${" in text:
        raise UserError(Problem(str(where), "it reads environment variables (${...})", advice=TRUST))
