"""sweep.jsonl, the ledger of a sweep: an append-only file with a line for each change of a job's state.

The first line holds the words of the sweep. A job's first line holds its whole configuration, which never changes.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.errors import Problem, RunFailed, UserError
from trainer.files import newer_format, read_limited
from trainer.records.checksums import checked, with_checksum
from trainer.records.contents import append, remove_torn
from trainer.records.folder import LEDGER
from trainer.records.lock import lock

FORMAT = 1
FINAL = ("done", "diverged", "pruned")  # never run again; `failed` and `interrupted` are
STATES = ("pending", "running", "paused", "failed", "interrupted", *FINAL)
LARGEST_BYTES = 1 << 30


@dataclass
class Entry:
    """A job of a sweep.

    Attributes:
        number: position in the sweep, from 0.
        id: identity of its configuration.
        name: name of its folder.
        varies: the groups and keys that set it apart from the other jobs, and their values.
        stored, choices, overrides: its configuration; see `trainer.config.compose.Job`.
        state: one of STATES.
        reason: why it is in this state; may be empty.
        of: number of jobs that the sweep had when the job was added.
        reached: of a sweep with halving, the best monitored value by the epochs that were trained whenever the job
            stopped. Rungs compare these: lines of the ledger have checksums, metrics.csv has none.
    """

    number: int
    id: str
    name: str
    varies: dict[str, Any]
    stored: dict[str, Any]
    choices: dict[str, str]
    overrides: list[str]
    state: str = "pending"
    reason: str = ""
    of: int = 0
    reached: dict[int, float | None] = field(default_factory=dict)


@dataclass
class Ledger:
    """An open ledger, locked against every other process until it is closed.

    Methods that write raise RunFailed if the file cannot be written.

    Attributes:
        words: the words of the command that started the sweep.
        lost: number of jobs whose lines are missing because the process was killed while it wrote them.
        stacks: numbers of the jobs that are trained in one pass; a list of one is a job that is trained alone.

    Raises:
        UserError: another process has locked it, or it cannot be created.
        RunFailed: the disk is full.
    """

    folder: Path
    words: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    lost: int = 0
    stacks: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = lock(self.folder / "sweep.lock", "this sweep is running at this moment")
        try:
            remove_torn(self.folder, shared=True)
            self._file = append(self.folder / LEDGER)
        except BaseException:
            self._lock.close()
            raise

    @classmethod
    def create(cls, folder: Path, words: list[str]) -> Ledger:
        """Create a ledger in an existing folder; for `Raises`, see the class."""
        ledger = cls(folder, words)
        ledger._write({"sweep": FORMAT, "words": words})
        return ledger

    @classmethod
    def open(cls, folder: Path) -> Ledger:
        """Open an existing ledger and cut off an incomplete last line.

        Raises:
            UserError: the file is not a ledger, or another process has locked it.
        """
        ledger = cls(folder)
        try:
            content = read_ledger(folder / LEDGER)
            if content.size < os.fstat(ledger._file.fileno()).st_size:  # the process was killed while it wrote
                ledger._file.truncate(content.size)
        except BaseException:
            ledger.close()
            raise
        ledger.words, ledger.entries, ledger.stacks = content.words, content.entries, content.stacks
        ledger.lost = max((entry.of for entry in content.entries), default=1) - len(content.entries)
        return ledger

    def close(self) -> None:
        """Close the files and release the lock."""
        with contextlib.suppress(OSError):  # a failed write was reported before
            self._file.close()
        self._lock.close()

    def add(self, entries: Iterable[Entry]) -> None:
        """Add pending jobs, and set the number of jobs, `of`, in each of them."""
        new = list(entries)
        self.entries += new
        lines = []
        for entry in new:
            entry.of = len(self.entries)
            lines.append({"job": entry.number, **{name: getattr(entry, name) for name in _FROZEN}, "state": "pending"})
        self._write(*lines)

    def change(
        self,
        entry: Entry,
        state: str,
        reason: str = "",
        *,
        reached: tuple[int, float | None] | None = None,
        **more: Any,
    ) -> None:
        """Set the state of a job; `more` is written in the same line for readers of the file.

        `reached` are the epochs that were trained and the best monitored value; see Entry.
        """
        entry.state, entry.reason = state, reason
        if reached is not None:
            entry.reached[reached[0]] = reached[1]
            more["reached"] = reached
        self._write({"job": entry.number, "state": state, **({"reason": reason} if reason else {}), **more})

    def stack(self, stacks: Sequence[list[int]], reasons: Sequence[str]) -> None:
        """Record which jobs are trained in one pass, and why."""
        if stacks or reasons:
            self.stacks += stacks
            self._write({"stacks": list(stacks), "why": list(reasons)})

    def _write(self, *lines: dict[str, Any]) -> None:
        stamp = {"time": round(time.time(), 3)}
        text = b"".join(with_checksum({**stamp, **line}) for line in lines)
        try:
            self._file.write(text)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            where = f"{self.folder / LEDGER}: could not be written ({error.strerror or error})"
            raise RunFailed(f"{where}. Make room, then: train resume={self.folder}") from error


@dataclass(frozen=True)
class LedgerContent:
    """Content of a ledger, as in `Ledger`; `size` is the number of bytes up to the end of the last complete line."""

    words: list[str]
    entries: list[Entry]
    stacks: list[list[int]]
    size: int


def read_ledger(path: Path) -> LedgerContent:
    """Read a ledger without opening it for writing.

    Raises:
        UserError: the file is not a ledger.
    """
    content = read_limited(path, LARGEST_BYTES)
    whole = content[: content.rfind(b"\n") + 1]
    if not whole:
        raise UserError(Problem(str(path), "it is empty; start a new sweep"))
    words: list[str] = []
    entries: list[Entry] = []
    stacks: list[list[int]] = []
    for number, text in enumerate(whole.splitlines(), 1):
        try:
            line = checked(text)
            if number == 1:
                _check_format(line, path)
                words = [str(word) for word in line["words"]]
            elif "stored" in line:
                entries.append(_entry(line, len(entries)))
            elif "stacks" in line:
                stacks += [[entries[job].number for job in stack] for stack in line["stacks"]]
            else:
                entry = entries[line["job"]]
                if line["state"] not in STATES:
                    raise ValueError(f"state {line['state']}")
                entry.state, entry.reason = line["state"], str(line.get("reason", ""))
                if "reached" in line:
                    epoch, value = line["reached"]
                    entry.reached[int(epoch)] = None if value is None else float(value)
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            raise UserError(Problem(f"{path}, line {number}", f"not readable ({error})")) from error
    return LedgerContent(words, entries, stacks, len(whole))


def _entry(line: Mapping[str, Any], number: int) -> Entry:
    """Return the entry that a job's first line describes; its name must be that of a folder in the sweep's folder."""
    if line["job"] != number or not re.fullmatch(r"\d[\w.,=-]*", line["name"]):
        raise ValueError(f"job {line['job']}, name {line['name']}")
    for name, kind in _KINDS.items():
        if not isinstance(line[name], kind):
            raise ValueError(f"{name} is not of type {kind.__name__}")
    texts = [*line["overrides"], *line["choices"], *line["choices"].values(), *line["varies"], line["id"]]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("overrides, choices and names must be strings")
    return Entry(number, **{name: line[name] for name in _FROZEN})


_FROZEN = ("id", "name", "varies", "stored", "choices", "overrides", "of")
_KINDS = {"varies": dict, "stored": dict, "choices": dict, "overrides": list, "of": int}


def _check_format(line: Any, path: Path) -> None:
    if not isinstance(line, dict) or not isinstance(line.get("sweep"), int):
        raise ValueError("expected the sweep's own line, with its format")
    if line["sweep"] > FORMAT:
        raise UserError(Problem(str(path), newer_format(line["sweep"], FORMAT)))
