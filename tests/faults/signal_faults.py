"""SIGINT, SIGTERM and SIGHUP, once and twice, at any moment."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

from faults.arena import Arena, moment, told_in_a_sentence
from faults.kinds import kind
from faults.outcome import Lost
from faults.settings import BY_NAME, RUNS, SWEEPS, Setting
from trainer.training import checkpoint

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _signalled(arena: Arena, chance: random.Random, setting: Setting, moments: list[int], second: bool) -> None:
    number = int(chance.choice(NUMBERS))
    at = chance.choice(moments)
    faults = [{"at": at, "do": "signal", "number": number}]
    if second:
        faults.append({"at": at + chance.randint(1, 12), "do": "signal", "number": number})
    with arena.place(setting) as place:
        done = place.start({"faults": faults})
        codes = (0, 128 + number, *((-number,) if second else ()))
        assert done.code in codes, f"{setting.name}: exit code {done.code} after signal {number}: {done.err[-800:]}"
        assert second or "Traceback" not in done.err, done.err[-1500:]
        arena.faults += done.code != 0
        place.check_saved()
        if done.code == 128 + number and not second and place.run is not None:
            _check_all_steps_saved(place.run)
        place.finish([])


def _check_all_steps_saved(run: Path) -> None:
    """Check that a signal lost no step.

    Raises:
        Lost: the checkpoint is older than the end of training.
    """
    results = run / "results.json"
    steps = json.loads(results.read_text())["steps"] if results.exists() else 0
    newest, _ = checkpoint.newest(run / "checkpoints", checkpoint.resumable)
    if steps and (newest is None or newest.step < steps):
        raise Lost(f"{steps} steps were trained, and {newest and newest.step} saved, in {run}")


@kind("signal", 4, thin=1, full=40)
def signal_once(arena: Arena, chance: random.Random) -> None:
    """A signal saves and ends a run with 128 + its number."""
    setting = chance.choice(RUNS)
    moments = list(range(len(arena.whole(setting).moments)))
    _signalled(arena, chance, setting, moments, second=False)


@kind("signal-report", 4, full=15)
def signal_while_reporting(arena: Arena, chance: random.Random) -> None:
    """A signal in the test, or while pictures and page are written; half of them twice."""
    setting = BY_NAME["plain"]
    moments = arena.whole(setting).at("png", "report.html", "results.json", "details.json", "poll test")
    _signalled(arena, chance, setting, moments, second=chance.random() < 0.5)


@kind("signal-twice", 4, full=25)
def signal_twice(arena: Arena, chance: random.Random) -> None:
    """The second signal ends a run at once, unless it is SIGHUP; nothing that was saved is lost."""
    setting = chance.choice(RUNS)
    _signalled(arena, chance, setting, list(range(len(arena.whole(setting).moments))), second=True)


@kind("signal-sweep", 5, full=15)
def signal_a_sweep(arena: Arena, chance: random.Random) -> None:
    """A signal to a sweep reaches its processes, which save."""
    setting = chance.choice(SWEEPS)
    number = int(chance.choice(NUMBERS))
    fault = {"at": moment(chance, arena.whole(setting)), "do": "signal-main", "number": number}
    with arena.place(setting) as place:
        place.recover(fault, 128 + number)


@kind("nohup", 4, full=6)
def lose_a_terminal_with_nohup(arena: Arena, chance: random.Random) -> None:
    """SIGHUP is ignored if it was ignored at the start."""
    setting = chance.choice(RUNS)
    fault = {"at": moment(chance, arena.whole(setting)), "do": "signal", "number": int(signal.SIGHUP)}
    with arena.place(setting) as place:
        done = place.start({"ignored": [int(signal.SIGHUP)], "faults": [fault]})
        arena.faults += 1
        told_in_a_sentence(done, 0)
        place.compare()
