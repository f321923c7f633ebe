"""Declare a configuration key: its default, meaning, limits and effects. Does not import torch."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from trainer.traits import cores

SWITCH: dict[str, Any] = {"word": "auto", "choices": ("auto", "true", "false")}
MOST_AT_A_TIME = 1024  # threads or processes: systems limit their number, and torch crashes at the limit
COUNT: dict[str, Any] = {
    "word": "auto",
    "pattern": r"[1-9][0-9]*",
    "expected": f"auto or a number from 1 to {MOST_AT_A_TIME} (this machine has {cores()} cores)",
    "le": MOST_AT_A_TIME,
}
FREE: dict[str, Any] = {"free_on_resume": True}
# A file may move like a folder, as a resume compares its content; but a sweep over files has different jobs.
FILE: dict[str, Any] = {**FREE, "tells_jobs_apart": True, "stackable": False}
SPLITS = {"evaluation": "followed"}  # how the data is split: an evaluation does not change it
REPEATS = {"repeats": True, "stackable": True, "changes": "result"}
ARGUMENTS_OF_TABLES: dict[str, dict[str, Any]] = {
    **{
        name: {"evaluation": "columns"}
        for name in ("features", "drop", "task", "group", "order", "split", "categorical")
    },
    "path": FILE,
}


def key(default: Any, meaning: str, **facts: Any) -> Any:
    """Declare a key with its meaning, its limits and its effects.

    Limits: `ge`, `gt`, `lt`, `le` for numbers; `choices`, or `pattern` with `expected`, for what is typed as a word.
    `word` is what a user types for None, such as `auto`.

    Effects, from which every list of keys in this program is derived (see `trainer.config.effects`). A key without an
    effect of its own inherits that of its group:

    - `free_on_resume`: the key may change between a run and its resumption.
    - `tells_jobs_apart`: jobs of a sweep may differ in it alone; by default if it is not free on resume.
    - `changes`: the most that another number changes: "cost" (the cost of a step; the default), "build" (what is built
      or read) or "result" (only the result).
    - `stackable`: runs of a stack may differ in it; by default if it is free on resume.
    - `alone`: values with which a run is not stacked; True for all but the default.
    - `repeats`: another value repeats an experiment with other random numbers.
    - `evaluation`: "typed" (an evaluation may change it), "followed" (it uses the stored value), "columns" (the same,
      for tables) or "ignored" (the default).
    - `off`: the value that disables the key's effect on training, for tests of a bare model.
    """
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: default.copy(), metadata={"meaning": meaning, **facts})
    return field(default=default, metadata={"meaning": meaning, **facts})


def group(cls: type, arguments: dict[str, dict[str, Any]] | None = None, **effects: Any) -> Any:
    """Declare a group of keys with the effects that they share.

    Args:
        cls: dataclass of the keys.
        arguments: effects of `_target_` and of its arguments, by name.
        effects: effects of all its keys.
    """
    return field(default_factory=cls, metadata={"arguments": arguments or {}, **effects})
