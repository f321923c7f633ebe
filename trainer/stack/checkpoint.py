"""The checkpoint of a stack while it runs: all its runs in one file, which becomes each run's own files later.

A stack's file is only there while the stack runs. What a killed one leaves is dealt out to its runs before anything
goes on from there, so a run is always resumed from its own `last.pt`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trainer.errors import RunFailed
from trainer.files import remove_torn
from trainer.training import checkpoint
from trainer.training.checkpoint import AUTO_SHARE, NAMES, Saver, finite
from trainer.training.state import RunState
from trainer.training.step import NonFinite

SECONDS = 10.0  # between two saves of a stack, at least


class StackSaver:
    """Saves runs that train together: all in one file while they do, each in its own at its end.

    Args:
        place: folder of the stack.
        savers: each run's own.
    """

    def __init__(self, place: Path, savers: dict[RunState, Saver]) -> None:
        self.place, self.savers = place, savers
        self.started = self.saved_at = time.perf_counter()
        self.spent = self.last_cost = 0.0
        self.saved_step = -1
        remove_torn(place)

    def due(self, state: RunState) -> bool:
        now = time.perf_counter()
        if state.step == 0 or state.step == self.saved_step or now - self.saved_at < SECONDS:
            return False
        if state.config.checkpoint.every != "auto":
            return self.savers[state].due(state)
        return self.spent + self.last_cost <= AUTO_SHARE * (now - self.started)

    def save(self, state: RunState) -> None:
        self.savers[state].save(state)

    def save_best(self, state: RunState) -> None:
        self.savers[state].save_best(state)

    def save_all(self, states: Sequence[RunState]) -> None:
        """
        Raises:
            NonFinite: weights of some runs are; nothing is written.
        """
        begin = time.perf_counter()
        if lost := [run for run, state in enumerate(states) if not finite(state)]:
            raise NonFinite("the weights are", lost)
        members = [
            {"name": saver.folder.parent.name, "about": saver.about, "run": state.state_dict()}
            for state, saver in ((state, self.savers[state]) for state in states)
        ]
        checkpoint.save(self.place / NAMES[0], {"members": members}, self.place / NAMES[1])
        self.saved_step, self.saved_at = states[0].step, time.perf_counter()
        for state in states:
            self.savers[state].saved_at = self.saved_at  # what is due every so many minutes is not due yet
        self.last_cost = self.saved_at - begin
        self.spent += self.last_cost

    def close(self) -> None:
        """Takes the stack's files away: each run has its own by now."""
        for name in NAMES:
            (self.place / name).unlink(missing_ok=True)


def restore_members(folder: Path, jobs: Mapping[str, bool]) -> list[str]:
    """Gives each run of a sweep its own files from what killed stacks have left; returns what is to be said.

    A stack whose files are all damaged costs what its runs had not saved themselves, and no more.

    Args:
        folder: of the sweep.
        jobs: the jobs' folders, and whether each is still to be run; a file cannot name others, nor touch what is done.

    Raises:
        RunFailed: a file holds what is none of this sweep's.
    """
    notes: list[str] = []
    for place in sorted(folder.glob("stack-*")):
        content, damaged = checkpoint.newest(place, _holds_stack)
        notes += damaged
        if content is None:
            if damaged:
                notes.append(f"{place}: no good checkpoint is left; its runs go on from what they saved themselves.")
            continue
        for member in content["members"]:
            if member["name"] not in jobs:
                raise RunFailed(f"{place}: its checkpoint holds a run that is none of this sweep's.")
            if jobs[member["name"]]:
                _give(folder / member["name"], member)
        for name in NAMES:
            (place / name).unlink(missing_ok=True)
    return notes


def _holds_stack(content: dict[str, Any]) -> bool:
    members = content.get("members")
    return isinstance(members, list) and all(
        isinstance(member, dict)
        and isinstance(member.get("name"), str)
        and isinstance(member.get("about"), dict)
        and checkpoint.holds_run({**member["about"], "run": member.get("run")})
        and isinstance(member["run"]["step"], int)
        for member in members
    )


def _give(place: Path, member: dict[str, Any]) -> None:
    """Writes a run's own checkpoint, unless the one that is there is as new."""
    folder = place / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    own, _ = checkpoint.newest(folder, checkpoint.holds_run)
    if own is None or own["run"]["step"] < member["run"]["step"]:
        last, previous = (folder / name for name in NAMES)
        checkpoint.save(last, {**member["about"], "run": _apart(member["run"])}, previous)


def _apart(value: Any) -> Any:
    """Tensors that are parts of larger ones become their own: a file holds the whole of what a tensor is a view of."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _apart(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_apart(item) for item in value)
    return value
