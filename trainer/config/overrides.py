"""Set a value in a composed tree, and suggest keys for misspelt ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from trainer.config import schema
from trainer.config.suggest import nearest_key
from trainer.errors import Problem


def set_value(tree: DictConfig, override: Override, groups: Iterable[str], problems: list[Problem]) -> None:
    """Set or delete one value in `tree`, which is mutated; the key must exist, except in a group with a `_target_`."""
    path, word = override.key_or_group, override.input_line or ""
    values = plain(tree, resolve=False)
    parent, _, leaf = path.rpartition(".")
    keys = [key for key, _ in leaves_of(values)]
    present = _find(values, path) is not _ABSENT
    if override.is_delete():
        if present:
            del (OmegaConf.select(tree, parent) if parent else tree)[leaf]
        else:
            problems.append(Problem(word, "no such key", advice=nearest_key(path, keys, groups, "")))
    elif parent and not isinstance(_find(values, parent), dict) and _find(values, parent) is not _ABSENT:
        problems.append(Problem(word, f"{parent} has no keys below it"))
    elif not present and not (parent and path.partition(".")[0] in schema.GROUPS):
        advice = nearest_key(path, keys, groups, word.partition("=")[2])
        problems.append(Problem(path, "no such key", advice=advice))
    else:
        OmegaConf.update(tree, path, override.value(), merge=False)


_ABSENT = object()


def _find(tree: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(tree, dict) or name not in tree:
            return _ABSENT
        tree = tree[name]
    return tree


def leaves_of(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield (dotted key, value) of everything in a tree but non-empty mappings."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves_of(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def value_at(tree: Any, path: str) -> Any:
    """Return the value of a dotted key in nested dicts; None if it is absent."""
    value = _find(tree, path)
    return None if value is _ABSENT else value


def plain(tree: DictConfig, *, resolve: bool) -> dict[str, Any]:
    """Return a tree as dicts, lists and plain values."""
    return cast(dict[str, Any], OmegaConf.to_container(tree, resolve=resolve))
