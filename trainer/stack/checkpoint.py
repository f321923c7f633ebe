"""The checkpoint of a stack: all its runs in one file while it trains, restored to the runs' own files after a kill.

The file exists only while the stack trains. If the stack is killed, `restore_members` writes its runs to their own
files before anything continues, so that a run always resumes from its own `last.pt`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from trainer.errors import RunFailed
from trainer.records.contents import make_folder, names, remove, remove_torn
from trainer.training import checkpoint
from trainer.training.archive import CheckpointError
from trainer.training.checkpoint import LAST, PREVIOUS, UNKNOWN_CONTENT, Checkpoint
from trainer.training.saver import AUTO_SHARE, Saver, is_finite
from trainer.training.state import RunState

SECONDS = 10.0  # minimum between two saves of a stack


class StackSaver:
    """Saves runs that train together: in one file while they train, each by its own saver when it ends."""

    def __init__(self, folder: Path, savers: dict[RunState, Saver]) -> None:
        self.folder, self.savers = folder, savers
        self.started = self.saved_at = time.perf_counter()
        self.spent = self.last_cost = 0.0
        self.saved_step = -1
        remove_torn(folder)

    def due(self, state: RunState) -> bool:
        now = time.perf_counter()
        if state.step == 0 or state.step == self.saved_step or now - self.saved_at < SECONDS:
            return False
        if state.config.checkpoint.every is not None:
            return self.savers[state].due(state)
        return self.spent + self.last_cost <= AUTO_SHARE * (now - self.started)

    def save(self, state: RunState) -> bool:
        return self.savers[state].save(state)

    def save_best(self, state: RunState) -> None:
        self.savers[state].save_best(state)

    def keep(self, state: RunState) -> None:
        self.savers[state].keep(state)

    def save_all(self, states: Sequence[RunState]) -> list[RunState]:
        """Save all runs in one file; return those whose weights are not finite, in which case nothing is written.

        Raises:
            RunFailed: the file could not be written.
        """
        begin = time.perf_counter()
        if lost := [state for state in states if not is_finite(state)]:
            return lost
        members = [
            {"name": saver.folder.parent.name, **Checkpoint.of_run(saver.metadata, state).to_dict()}
            for state, saver in ((state, self.savers[state]) for state in states)
        ]
        checkpoint.save(self.folder / LAST, {"members": members}, self.folder / PREVIOUS)
        self.saved_step, self.saved_at = states[0].step, time.perf_counter()
        for state in states:
            self.savers[state].saved_at = self.saved_at  # resets the timer of checkpoint.every=10min
        self.last_cost = self.saved_at - begin
        self.spent += self.last_cost
        return []

    def close(self) -> None:
        """Delete the stack's files: each run has its own by now."""
        for name in (LAST, PREVIOUS):
            remove(self.folder / name)


def restore_members(folder: Path, jobs: Mapping[str, bool]) -> list[str]:
    """Write the runs in the files of killed stacks to the runs' own files.

    If all files of a stack are damaged, its runs continue from their own checkpoints.

    Args:
        folder: the folder of the sweep.
        jobs: for each job's folder name, whether the job is unfinished. Finished jobs are left alone.

    Returns:
        A sentence for each damaged file.

    Raises:
        RunFailed: a file holds a run of another sweep.
    """
    notes: list[str] = []
    for stack in (folder / name for name in names(folder) if name.startswith("stack-")):
        members, damaged = checkpoint.newest(stack, _members)
        notes += damaged
        if members is None:
            if damaged:
                notes.append(f"{stack}: no good checkpoint is left; its runs continue from their own checkpoints.")
            continue
        for name, member in members.items():
            if name not in jobs:
                raise RunFailed(f"{stack}: its checkpoint holds a run of another sweep.")
            if jobs[name]:
                _restore(folder / name / "checkpoints", member)
        for name in (LAST, PREVIOUS):
            remove(stack / name)
    return notes


def _members(content: dict[str, Any]) -> dict[str, Checkpoint]:
    """Return the checkpoints in a stack's file by the names of their run folders.

    Raises:
        CheckpointError: it is not what `save_all` wrote.
    """
    members = content.get("members")
    if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
        raise CheckpointError(UNKNOWN_CONTENT)
    restored = {}
    for member in members:
        name = member.pop("name", None)
        run = checkpoint.resumable(member)
        if not isinstance(name, str) or not isinstance((run.run or {})["step"], int):
            raise CheckpointError(UNKNOWN_CONTENT)
        restored[name] = run
    return restored


def _restore(folder: Path, member: Checkpoint) -> None:
    """Write a run's own checkpoint, unless its own newest one is at least as recent."""
    for place in (folder.parent, folder):
        make_folder(place)
    own, _ = checkpoint.newest(folder, checkpoint.resumable)
    if own is None or own.step < member.step:
        checkpoint.save(folder / LAST, replace(member, run=_cloned(member.run)).to_dict(), folder / PREVIOUS)


def _cloned(value: Any) -> Any:
    """Clone all tensors in nested containers, so that saving one run does not save the whole stack's storage."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _cloned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_cloned(item) for item in value)
    return value
