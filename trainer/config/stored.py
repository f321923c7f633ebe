"""Stored configurations: written, and read back as plain values, without resolving interpolations.

The files may come from anybody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainer.config.limits import MOST_BYTES, BoundedLoader
from trainer.errors import Problem, UserError
from trainer.files import read_text

FILE = "config.yaml"
CHOICES = "# chosen: "
LONGEST_CHOICES = 10_000  # characters of the first line that are read
TRUST = "If you trust it, add trust=true."


_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # five times as fast if libyaml is installed


@dataclass(frozen=True)
class StoredConfig:
    """A configuration as config.yaml and checkpoints keep it.

    Attributes:
        tree: plain values; interpolations stand as text.
        choices: the chosen option of each group, for display only.
    """

    tree: dict[str, Any]
    choices: dict[str, str]

    @classmethod
    def read(cls, folder: Path, *, trusted: bool) -> StoredConfig:
        """Read the config.yaml of a run folder.

        Raises:
            UserError: the file is not a configuration, or it reads environment variables and is not trusted.
        """
        path = folder / FILE
        text = read_text(path, MOST_BYTES)
        stored = cls.parse(text, path)
        if not trusted:
            refuse_interpolation(text, path)
        return stored

    @classmethod
    def parse(cls, text: str, where: Path) -> StoredConfig:
        """Parse what `dump` returns; `where` names it in messages.

        Raises:
            UserError: the text is not a configuration.
        """
        if len(text) > MOST_BYTES:
            reason = f"its configuration is larger than the {MOST_BYTES:,} bytes accepted"
            raise UserError(Problem(str(where), reason))
        try:
            tree = yaml.load(text, BoundedLoader)  # a SafeLoader
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(Problem(str(where), f"not readable: {' '.join(str(error).split())}")) from error
        if not isinstance(tree, dict):
            raise UserError(Problem(str(where), f"expected a configuration, found {type(tree).__name__}"))
        first = text[:LONGEST_CHOICES].partition("\n")[0]
        return cls(tree, dict(re.findall(r"(\w+)=([\w.,-]+)", first)) if first.startswith(CHOICES) else {})

    def dump(self) -> str:
        """Return the text of config.yaml: the choices in a comment, then the tree."""
        first = CHOICES + " ".join(f"{group}={option}" for group, option in self.choices.items())
        return f"{first}\n{yaml.dump(self.tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)}"


def refuse_interpolation(text: str, where: Path) -> None:
    """Refuse a stored configuration that would read environment variables when it is resolved.

    Raises:
        UserError: it contains `${`.
    """
    if "${" in text:
        raise UserError(Problem(str(where), "it reads environment variables (${...})", advice=TRUST))
