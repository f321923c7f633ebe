"""A job: one composed configuration, with random values drawn, resolved and checked. Does not import torch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.config import schema
from trainer.config.overrides import leaves_of, plain, value_at
from trainer.config.parse import parse
from trainer.config.schema import Config
from trainer.config.search_space import Range, draw
from trainer.config.sizes import size_problems
from trainer.errors import Problem, UserError

ENVIRONMENT = re.compile(r"\$\{\s*oc\.env")
DEFAULT_ROOT = schema.defaults()["data"]["root"]


@dataclass(frozen=True)
class Job:
    """A composed configuration.

    Attributes:
        config: the typed configuration; a key with a problem has its default.
        stored: the tree that the run folder stores: resolved, except for interpolated environment variables.
        choices: chosen option of each group, or the class of one whose `_target_` was typed without it; for display.
        overrides: what the user typed for this job.
        problems: everything that is wrong.
        id: identity of the job among the jobs of its sweep; empty outside a sweep.
        altered: groups with a file, target or key that is not shipped, or a suspicious value: to check them, their
            targets must be resolved, which needs torch.
    """

    config: Config
    stored: dict[str, Any]
    choices: dict[str, str]
    overrides: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    altered: set[str] = field(default_factory=set)
    id: str = ""


def gist(error: Exception) -> str:
    """Return a library's message of several lines as one line of at most 400 characters, without a full stop."""
    return " ".join(str(error).split())[:400].rstrip(".")


def finish(
    tree: DictConfig, choices: dict[str, str], overrides: list[str], suggest: Callable[[str, Range], Any] | None = None
) -> Job:
    """Return the job of a tree: random values drawn, interpolations resolved, types and ranges checked.

    Args:
        tree: the composed tree, which is mutated.
        choices: chosen option of each group.
        overrides: what the user typed.
        suggest: chooses the values of ranges; default: they are drawn at random.

    Raises:
        UserError: an interpolation cannot be resolved.
    """
    problems: list[Problem] = []
    try:
        draw(tree, problems, suggest)
        raw = plain(tree, resolve=False)
        missing = sorted(key for key, value in leaves_of(raw) if value == "???")
        for key in missing:
            problems.append(Problem(key, "a value is needed", command=f"{key}=..."))
            OmegaConf.update(tree, key, None)
        raw = plain(tree, resolve=False) if missing else raw
        resolved = plain(tree, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(Problem("", gist(error))) from error
    parsed, invalid = parse(resolved)
    root = parsed.data.root
    root = None if root is None else os.path.abspath(os.path.expanduser(root))
    parsed = replace(parsed, data=replace(parsed.data, root=root))
    if value_at(raw, "data.root") == DEFAULT_ROOT:  # $TRAINER_DATA is the user's folder, not a secret of theirs
        raw["data"]["root"] = resolved["data"]["root"]
    stored = _keep_environment(raw, resolved, _secrets(raw, resolved) - {""})
    if isinstance(stored.get("data"), dict) and "${" not in str(stored["data"].get("root")):
        stored["data"]["root"] = root
    return Job(parsed, stored, choices, overrides, problems + invalid + size_problems(parsed.model))


def _secrets(raw: Any, resolved: Any) -> set[str]:
    """Return the values of environment variables, as text."""
    if isinstance(raw, dict) and isinstance(resolved, dict):
        return {secret for name in raw for secret in _secrets(raw[name], resolved[name])}
    if isinstance(raw, list) and isinstance(resolved, list):
        return {secret for pair in zip(raw, resolved, strict=True) for secret in _secrets(*pair)}
    return {str(resolved)} if isinstance(raw, str) and ENVIRONMENT.search(raw) else set()


def _keep_environment(raw: Any, resolved: Any, secrets: set[str]) -> Any:
    """Return `resolved` with the text of every `${...}` that reads an environment variable, directly or not."""
    if isinstance(raw, dict) and isinstance(resolved, dict):
        return {name: _keep_environment(raw[name], resolved[name], secrets) for name in raw}
    if isinstance(raw, list) and isinstance(resolved, list):
        return [_keep_environment(a, b, secrets) for a, b in zip(raw, resolved, strict=True)]
    if isinstance(raw, str) and "${" in raw and any(secret in str(resolved) for secret in secrets):
        return raw
    return resolved


def class_names(typed: Collection[str], stored: Mapping[str, Any]) -> dict[str, str]:
    """Return the class of the model and of the data by group, where `_target_` was typed and the group was not."""
    groups = [group for group in ("model", "data") if f"{group}._target_" in typed and group not in typed]
    names = {group: str(value_at(stored, f"{group}._target_")).rpartition(".")[2] for group in groups}
    return {group: name for group, name in names.items() if name.isidentifier()}
