"""Killed child processes and too little memory."""

from __future__ import annotations

import random

from faults.arena import Arena, moment
from faults.kinds import kind
from faults.settings import BY_NAME, FORGIVING


@kind("worker", 38, full=15)
def kill_data_workers(arena: Arena, chance: random.Random) -> None:
    """A run whose data workers are killed ends with a sentence; its checkpoints stay, and it can be resumed."""
    setting = BY_NAME["streamed"]
    with arena.place(setting) as place:
        place.recover({"at": moment(chance, arena.whole(setting)), "do": "orphan"}, 1)


@kind("memory", 21, full=15)
def limit_the_memory(arena: Arena, chance: random.Random) -> None:
    """A run that gets no more memory ends with a sentence, and can be resumed with more."""
    setting = chance.choice(FORGIVING)
    value = chance.choice([0, 1, 5, 20, 60]) * 2**20
    fault = {"at": moment(chance, arena.whole(setting)), "do": "limit", "resource": "RLIMIT_AS", "value": value}
    with arena.place(setting) as place:
        place.recover(fault, 1)
