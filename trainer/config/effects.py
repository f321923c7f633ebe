"""Effects of a changed key on resumption, sweeps, stacks and evaluations. Does not import torch.

Every key declares its effects once, where it is declared (see `trainer.config.declare.key`).
"""

from __future__ import annotations

import typing
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache, reduce
from typing import Any, TypeVar

from trainer.config.schema import Config, as_typed, documented_keys, own_fields
from trainer.errors import show


@dataclass(frozen=True)
class Effects:
    """The effects of a key; see `trainer.config.declare.key`."""

    free_on_resume: bool = False
    tells_jobs_apart: bool = True
    changes: str = "cost"
    stackable: bool = False
    repeats: bool = False
    evaluation: str = "ignored"


@cache
def effects_of(key: str) -> Effects:
    """Return the effects of a dotted key, or of a group; an argument of a `_target_` has those of its group."""
    cls: Any = Config
    declared: dict[str, Any] = {}
    for name in key.split("."):
        own = {f.name: f for f in own_fields(cls)} if is_dataclass(cls) else {}
        facts = own[name].metadata if name in own else declared.get("arguments", {}).get(name, {})
        declared = {**declared, **facts}
        cls = typing.get_type_hints(cls)[name] if name in own else None
    effects = {f.name: declared[f.name] for f in fields(Effects) if f.name in declared}
    free = declared.get("free_on_resume", False)
    return Effects(**{"stackable": free, "tells_jobs_apart": not free, **effects})


def is_free_on_resume(key: str) -> bool:
    """Return whether a dotted key may differ between a run and its resumption."""
    return effects_of(key).free_on_resume


def tells_jobs_apart(key: str) -> bool:
    """Return whether jobs of a sweep that differ in a dotted key alone are different jobs."""
    return effects_of(key).tells_jobs_apart


def keys_where(**effects: Any) -> list[str]:
    """Return the declared keys that have all these effects, in the order of their declaration."""
    return [
        name
        for name, _ in documented_keys()
        if all(getattr(effects_of(name), effect) == value for effect, value in effects.items())
    ]


def reasons_to_train_alone(config: Config) -> dict[str, str]:
    """Return the keys, with their values, that keep a run out of a stack."""
    reasons = {}
    for name, declared in documented_keys():
        value, alone = reduce(getattr, name.split("."), config), declared.metadata.get("alone", ())
        if bool(value) if alone is True else value in alone:
            reasons[name] = show(as_typed(declared, value))
    return reasons


Group = TypeVar("Group")


def switched_off(config: Group) -> Group:
    """Return the configuration, or a group of it, without schedule, augmentation and early stopping."""
    changes: dict[str, Any] = {}
    for f in fields(config):  # type: ignore[arg-type]
        value = getattr(config, f.name)
        if is_dataclass(value):
            group: Any = type(value)
            changes[f.name] = group() if f.metadata.get("off") else switched_off(value)
        elif "off" in f.metadata:
            changes[f.name] = f.metadata["off"]
    return replace(config, **changes)  # type: ignore[type-var]
