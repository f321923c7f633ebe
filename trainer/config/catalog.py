"""The catalog of groups and their options, with a description of each. Imports neither torch nor Hydra."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.errors import Problem, UserError, printable, suggestions
from trainer.files import open_regular

ORDER = ("model", "data", "loss", "optim", "schedule", "augment", "metric", "init", "logger", "experiment", "debug")
MOST_CHARACTERS = 10_000  # of a YAML file that are searched for its first comment
OTHER_NAMES = {  # of groups, in the singular
    "dataset": "data",
    "optimizer": "optim",
    "optimiser": "optim",
    "scheduler": "schedule",
    "losses": "loss",
    "criterion": "loss",
    "augmentation": "augment",
    "tracker": "logger",
    "recipe": "experiment",
}


def groups(folders: list[Path]) -> dict[str, list[tuple[str, Path]]]:
    """Return the options of each group with their files; a file hides those of the same name in later folders."""
    options: dict[str, dict[str, Path]] = {}
    for folder in folders:
        for path in sorted(folder.glob("*/*.yaml")):
            options.setdefault(path.parent.name, {}).setdefault(path.stem, path)
    names = sorted(options, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    return {name: sorted(options[name].items()) for name in names}


def first_line(path: Path) -> str:
    """Return the description of an option: the first comment of its YAML file that is not a package directive."""
    try:
        with open_regular(path, follow=True) as file:  # the folders are the user's own, and so are links in them
            lines = io.TextIOWrapper(file, encoding="utf-8").read(MOST_CHARACTERS).splitlines()
    except UserError as error:
        return f"(not readable: {error.problems[0].reason})"
    except (OSError, UnicodeDecodeError) as error:
        return f"(not readable: {error})"
    for line in lines:
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ")
        if line and not line.startswith("#"):
            break
    return ""


def group_of(name: str, catalog: dict[str, list[tuple[str, Path]]], others: Sequence[str] = ()) -> str:
    """Return the group of this name, which may be a plural or a synonym; `others` are words that do as well.

    Raises:
        UserError: there is no group of this name.
    """
    singular = name.removesuffix("s")
    for candidate in (name, singular, OTHER_NAMES.get(name), OTHER_NAMES.get(singular)):
        if candidate in catalog:
            return candidate
    raise UserError(Problem(name, "no such group", advice=suggestions(name, [*catalog, *others])))


def describe(folders: list[Path], name: str | None = None) -> list[str]:
    """Return lines for the terminal: the options of a group, or of all, with descriptions; user files are named.

    Raises:
        UserError: there is no group of this name.
    """
    catalog = groups(folders)
    chosen = catalog if name is None else {(group := group_of(name, catalog, ["runs"])): catalog[group]}
    lines = []
    for group, options in chosen.items():
        width = max(len(option) for option, _ in options) + len(group) + 3
        for option, path in options:
            own = "" if path.is_relative_to(folders[-1]) else f"  ({path})"
            lines.append(printable(f"{f'{group}={option}':<{width}}{first_line(path)}{own}".rstrip()))
        if len(chosen) > 1:
            lines.append("")
    return lines


def shipped_conf() -> Path:
    """Return the folder of the shipped YAML files: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def config_folders(config_dir: str | None = None) -> list[Path]:
    """Return the folders of YAML files: `--config-dir`, then ./conf, then the shipped one; the first file wins.

    Raises:
        UserError: `config_dir` is not a folder.
    """
    shipped, folders = shipped_conf(), []
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise UserError(Problem(f"--config-dir {config_dir}", "no such folder"))
        folders.append(Path(config_dir).resolve())
    if Path("conf").is_dir() and Path("conf").resolve() != shipped:
        folders.append(Path("conf").resolve())
    return [*folders, shipped]


def leave_current_folder() -> None:
    """Remove the current folder from the import path: a file in it could be imported in place of a missing library."""
    here = os.getcwd()
    sys.path[:] = [entry for entry in sys.path if entry and os.path.abspath(entry) != here]
