"""A place to train the same settings again and again, with and without faults."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from faults.outcome import Lost, compare
from faults.settings import Setting, write_data
from helpers.fork_server import ForkServer, RunningCommand
from helpers.processes import processes_in, wait_for_end
from helpers.runs import CompletedCommand
from helpers.sweeps import places
from trainer.training import checkpoint

KILLED = (-signal.SIGKILL, -signal.SIGPROF)


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run or sweep.

    Attributes:
        folder: its folder.
        moments: what happened at each moment: the call and the path of the file, from the folder on.
        seconds: processor time of the main process.
    """

    folder: Path
    moments: list[str]
    seconds: float

    def at(self, *words: str) -> list[int]:
        """Return the moments whose text contains one of these words."""
        return [number for number, text in enumerate(self.moments) if any(word in text for word in words)]

    @cached_property
    def writes(self) -> list[int]:
        """Every moment at which a file changes."""
        return [number for number, text in enumerate(self.moments) if not text.startswith("poll")]


class Arena:
    """Folders, shared data and a server that forks commands. Close it at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        folder.mkdir(parents=True, exist_ok=True)
        write_data(self.data)
        self.server = ForkServer({"trainer.stack.checkpoint.SECONDS": 0.0})
        self.wholes: dict[str, Whole] = {}
        self.faults = 0
        self.count = 0

    def close(self) -> None:
        """Stop the server."""
        self.server.close()

    @contextlib.contextmanager
    def place(self, setting: Setting) -> Iterator[Place]:
        """Give a new folder for a setting; it is the current folder in the block, and is deleted after a success."""
        self.count += 1
        place = Place(self, setting, (self.folder / f"{self.count:05}-{setting.name}").resolve())
        place.folder.mkdir()
        with contextlib.chdir(place.folder):
            if setting.prepare:
                setting.prepare()
            yield place
        wait_for_end(processes_in(place.folder))
        shutil.rmtree(place.folder)

    def whole(self, setting: Setting) -> Whole:
        """Return the uninterrupted run of a setting, trained at the first call."""
        if setting.name not in self.wholes:
            place = Place(self, setting, (self.folder / f"whole-{setting.name}").resolve())
            place.folder.mkdir(exist_ok=True)
            with contextlib.chdir(place.folder):
                if setting.prepare:
                    setting.prepare()
                log = place.folder / "moments"
                done = place.start({"log": str(log)})
                assert done.code == 0, done.err
            lines = [line.rpartition(" ") for line in log.read_text().splitlines()]
            assert done.folder is not None
            seconds = max(float(line[2]) for line in lines)
            self.wholes[setting.name] = Whole(done.folder.resolve(), [line[0] for line in lines], seconds)
        return self.wholes[setting.name]


class Place:
    """A folder in which one setting is trained, interrupted and resumed."""

    def __init__(self, arena: Arena, setting: Setting, folder: Path) -> None:
        self.arena, self.setting, self.folder = arena, setting, folder
        self.saved = folder / "saved"
        self.words = setting.filled(arena.data)
        self.found: Path | None = None

    @property
    def run(self) -> Path | None:
        """The folder of the run or sweep, once it can be resumed."""
        if self.found is None:
            runs = [path for path in self.folder.glob("outputs/*-*/*") if self._is_resumable(path)]
            self.found = max(runs, key=lambda path: path.stat().st_mtime_ns, default=None)
        return self.found

    def _is_resumable(self, path: Path) -> bool:
        """Return whether a folder has what `resume=` needs: a configuration, or the line of a job in a ledger."""
        if not self.setting.is_sweep:
            return (path / "config.yaml").exists()
        return bool((path / "sweep.jsonl").exists() and places(path))

    def begin(self, plan: Mapping[str, Any] | None = None, *more: str, terminal: str | None = None) -> RunningCommand:
        """Begin to train with the faults of a plan, from the start, or resume what there is.

        Args:
            plan: the faults.
            more: further arguments.
            terminal: the file that output goes to.
        """
        run = self.run
        words = (f"resume={run}", *(w for w in self.words if w.startswith("trust="))) if run else self.words
        faults = {"root": str(self.folder), "saved": str(self.saved), **(plan or {})}
        cache = str(self.arena.folder / "cache")
        return self.arena.server.start(*words, *more, faults=faults, terminal=terminal, XDG_CACHE_HOME=cache)

    def start(self, plan: Mapping[str, Any] | None = None, *more: str, terminal: str | None = None) -> CompletedCommand:
        """Begin to train as `begin` does, and return at the end."""
        return self.begin(plan, *more, terminal=terminal).end()

    def verb(self, *words: str) -> CompletedCommand:
        """Run `trainer VERB ...` here."""
        cache = str(self.arena.folder / "cache")
        return self.arena.server.start(*words, program="trainer", XDG_CACHE_HOME=cache).end()

    def interrupt(self, chance: random.Random) -> Path:
        """Train, kill the main process when it has saved twice and has no results yet, and return the folder."""
        whole = self.arena.whole(self.setting)
        saves = [number for number in whole.at("last.pt") if "replace" in whole.moments[number]]
        end = max(min(whole.at("results.json")), saves[1] + 10)
        done = self.start(kill(chance.randrange(saves[1] + 2, end), "kill-main"))
        assert self.run is not None, done.err
        return self.run

    def recover(self, fault: Mapping[str, Any], *codes: int) -> None:
        """Train with a fault that ends in a sentence and with one of these exit codes, if it ends the command; resume.

        Raises:
            AssertionError: it ends in another way, or a checkpoint or the result is not that without the fault.
        """
        done = self.start({"faults": [fault]})
        told_in_a_sentence(done, 0, *codes)
        self.arena.faults += done.code != 0
        self.check_saved()
        self.finish([])

    def finish(self, plans: Iterable[Mapping[str, Any]]) -> int:
        """Start with each plan in turn, then without one until it is finished, and compare with the whole run.

        Returns:
            The number of commands that a fault ended.

        Raises:
            Different: the end is not that of the uninterrupted run.
            Lost: a checkpoint is gone, or resuming fails.
        """
        ended = 0
        for plan in (*plans, None):
            done = self.start(plan)
            if done.code == 0:
                break
            ended += 1
            self.check_saved()
        self.arena.faults += ended
        if done.code != 0 or self.run is None:
            raise Lost(f"{self.setting.name}: resuming ended with {done.code} in {self.folder}: {done.err[-1500:]}")
        self.compare()
        return ended

    def compare(self) -> None:
        """Compare the finished run or sweep with the uninterrupted one.

        Raises:
            Different: they are not the same.
        """
        assert self.run is not None
        compare(self.run, self.setting, self.arena.whole(self.setting).folder)

    def check_saved(self) -> None:
        """Check that no save that was complete has been lost.

        Raises:
            Lost: the newest good checkpoint of a run is older than its last save.
        """
        if not self.saved.exists():
            return
        saves = [line.rpartition(" ") for line in self.saved.read_text().splitlines()]
        for folder, step in {folder: int(step) for folder, _, step in saves}.items():
            newest, notes = checkpoint.newest(Path(folder), checkpoint.resumable)
            if newest is None or newest.step < step or notes:
                raise Lost(f"{self.setting.name}: {folder} was saved at step {step}, and has {newest and newest.step}")


def moment(chance: random.Random, whole: Whole) -> int:
    """Return a moment of a run, each equally likely."""
    return chance.randrange(len(whole.moments))


def kill(at: int, how: str = "kill") -> dict[str, Any]:
    """Return a plan that kills the command at a moment."""
    return {"faults": [{"at": at, "do": how}]}


def by_clock(chance: random.Random, whole: Whole) -> dict[str, Any]:
    """Return a plan that kills the command after a processor time, anywhere between two moments."""
    return {"seconds": chance.uniform(0.001, max(0.01, whole.seconds))}


def told_in_a_sentence(done: CompletedCommand, *codes: int) -> None:
    """Check that a command ended with one of these exit codes, and without a traceback.

    Raises:
        AssertionError: it did not.
    """
    assert done.code in codes, f"exit code {done.code}, expected one of {codes}: {done.err[-800:]}"
    assert "Traceback" not in done.err, done.err[-1500:]
    by_signal = done.code > 128
    assert done.code == 0 or by_signal or done.err.strip(), "it failed without a word"
