"""Where YAML files, and a user's own code, are looked for. Imports nothing heavy."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from trainer.errors import UserError


def shipped_conf() -> Path:
    """The folder of the shipped YAML files: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def config_folders(config_dir: str | None = None) -> list[Path]:
    """`--config-dir`, then ./conf, then the shipped one; the first that has a file wins.

    Raises:
        UserError: `config_dir` is no folder.
    """
    shipped, folders = shipped_conf(), []
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise UserError(f"--config-dir {config_dir}: no such folder.")
        folders.append(Path(config_dir).resolve())
    if Path("conf").is_dir() and Path("conf").resolve() != shipped:
        folders.append(Path("conf").resolve())
    return [*folders, shipped]


def leave_current_folder() -> None:
    """Nothing is imported from the current folder any more: it may be somebody's run folder, and a file in it could
    stand in for a library that is not installed."""
    here = os.getcwd()
    sys.path[:] = [place for place in sys.path if place and os.path.abspath(place) != here]
