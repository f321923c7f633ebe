"""Full disks, read-only disks, files that may not grow, and output that goes nowhere."""

from __future__ import annotations

import errno
import random

from faults.arena import Arena, moment, told_in_a_sentence
from faults.kinds import kind
from faults.settings import BY_NAME, FORGIVING, RUNS, Setting


def _without_disk(arena: Arena, setting: Setting, fault: dict) -> None:
    """Train with a disk that fails; then resume with one that works."""
    with arena.place(setting) as place:
        done = place.start({"faults": [fault]})
        told_in_a_sentence(done, 0, 1, 2)
        arena.faults += done.code != 0
        place.check_saved()
        place.finish([])


@kind("disk-full", 8, thin=1, full=40)
def fill_the_disk(arena: Arena, chance: random.Random) -> None:
    """From a moment on nothing can be written; half of the first write still fits."""
    setting = chance.choice(FORGIVING)
    _without_disk(arena, setting, _failing(arena, chance, setting, errno.ENOSPC))


@kind("disk-read-only", 29, full=30)
def make_the_disk_read_only(arena: Arena, chance: random.Random) -> None:
    """From a moment on no file can be changed, as after an error of the disk."""
    setting = chance.choice(FORGIVING)
    _without_disk(arena, setting, _failing(arena, chance, setting, errno.EROFS))


@kind("disk-limit", 8, full=15)
def limit_the_size_of_files(arena: Arena, chance: random.Random) -> None:
    """No file may grow beyond a limit, by the system itself."""
    setting = chance.choice(FORGIVING)
    value = chance.choice([50, 100, 1000, 4000, 10_000, 20_000])  # not 0: stderr is a file, and must hold a sentence
    at = moment(chance, arena.whole(setting))
    _without_disk(arena, setting, {"at": at, "do": "limit", "resource": "RLIMIT_FSIZE", "value": value})


def _failing(arena: Arena, chance: random.Random, setting: Setting, error: int) -> dict:
    return {"at": moment(chance, arena.whole(setting)), "do": "fail", "error": error}


@kind("output", 8, full=12)
def lose_the_output(arena: Arena, chance: random.Random) -> None:
    """Train with /dev/full, or nothing, as stdout or as both streams: training does not depend on it."""
    setting = chance.choice([BY_NAME["plain"], *RUNS])
    way = chance.choice(["/dev/full", "no stdout", "no streams"])
    with arena.place(setting) as place:
        plan = {"closed": {"no stdout": [1], "no streams": [1, 2]}.get(way, [])}
        done = place.start(plan, terminal=way if way.startswith("/dev") else None)
        arena.faults += 1
        told_in_a_sentence(done, 0)
        place.compare()
