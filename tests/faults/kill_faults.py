"""kill -9 at any moment, again and again, and a loss of power."""

from __future__ import annotations

import random

from faults.arena import Arena, by_clock, kill, moment
from faults.kinds import kind
from faults.outcome import Lost
from faults.settings import BY_NAME, FORGIVING, PAGED, RUNS, SETTINGS, SWEEPS, Setting
from helpers.sweeps import places


def _killed(arena: Arena, chance: random.Random, setting: Setting, moments: list[int], how: str = "kill") -> None:
    """Kill a setting at one of these moments, and its resumption up to twice more anywhere."""
    whole = arena.whole(setting)
    plans = [kill(chance.choice(moments), how), *(kill(moment(chance, whole)) for _ in range(chance.randrange(3)))]
    with arena.place(setting) as place:
        place.finish(plans)


@kind("kill-clock", 1, full=60)
def kill_by_clock(arena: Arena, chance: random.Random) -> None:
    """Kill a run after a processor time, which may be inside a call of torch, up to four times."""
    setting = chance.choice(RUNS)
    with arena.place(setting) as place:
        place.finish([by_clock(chance, arena.whole(setting)) for _ in range(chance.randint(1, 4))])


@kind("kill-moment", 1, thin=2, full=60)
def kill_at_a_moment(arena: Arena, chance: random.Random) -> None:
    setting = chance.choice(RUNS)
    _killed(arena, chance, setting, list(range(len(arena.whole(setting).moments))))


@kind("kill-own", 1, full=20)
def kill_code_of_the_user(arena: Arena, chance: random.Random) -> None:
    """Kill a run whose data set and model draw random numbers by themselves."""
    setting = BY_NAME["own"]
    _killed(arena, chance, setting, list(range(len(arena.whole(setting).moments))))


@kind("kill-save", 2, thin=1, full=40)
def kill_inside_a_save(arena: Arena, chance: random.Random) -> None:
    """Kill a run while it writes a checkpoint; half of what it is writing is in the file."""
    setting = chance.choice(RUNS)
    _killed(arena, chance, setting, arena.whole(setting).at("checkpoints/"), "tear")


@kind("kill-write", 3, thin=1, full=40)
def kill_at_a_write(arena: Arena, chance: random.Random) -> None:
    setting = chance.choice(RUNS)
    _killed(arena, chance, setting, arena.whole(setting).writes, "tear")


@kind("kill-evaluation", 1, full=20)
def kill_in_an_evaluation(arena: Arena, chance: random.Random) -> None:
    """Kill a run while it validates or tests."""
    setting = chance.choice(RUNS)
    _killed(arena, chance, setting, arena.whole(setting).at("poll validate", "poll test"))


@kind("kill-report", 3, full=30)
def kill_while_reporting(arena: Arena, chance: random.Random) -> None:
    """Kill a run while it writes results, pictures and the page."""
    setting = BY_NAME["plain"]
    moments = arena.whole(setting).at("png", "report.html", "results.json", "details.json", "poll test")
    _killed(arena, chance, setting, moments, chance.choice(["kill", "tear"]))


@kind("kill-group", 5, full=20)
def kill_all_processes(arena: Arena, chance: random.Random) -> None:
    """Kill a run or sweep and all its processes at once."""
    setting = chance.choice([BY_NAME["streamed"], *SWEEPS])
    whole = arena.whole(setting)
    with arena.place(setting) as place:
        place.finish([kill(moment(chance, whole), "kill-all") for _ in range(chance.randint(1, 3))])


@kind("kill-sweep", 26, thin=1, full=60)
def kill_a_sweep(arena: Arena, chance: random.Random) -> None:
    """Kill a sweep; its processes see that it is gone."""
    _killed_sweep(arena, chance, chance.choice(SWEEPS))


@kind("kill-stack", 26, full=20)
def kill_a_stack(arena: Arena, chance: random.Random) -> None:
    """Kill a sweep whose jobs train in one pass, with the process that trains them."""
    setting = BY_NAME["stack"]
    whole = arena.whole(setting)
    moments = [n for n in whole.at("stack-") if "last.pt" in whole.moments[n]]
    saves = [n for n in moments if whole.moments[n].startswith("replace")]
    at = chance.choice(moments)
    with arena.place(setting) as place:
        place.finish([kill(at, "kill-all")])
        assert place.run is not None
        if saves[0] < at <= saves[-1]:
            anew = [job.name for job in places(place.run) if "resumed " not in (job / "train.log").read_text()]
            if anew:
                raise Lost(f"{', '.join(anew)} began anew although the stack was saved, in {place.run}")


@kind("kill-ledger", 26, full=20)
def kill_inside_a_line_of_a_ledger(arena: Arena, chance: random.Random) -> None:
    setting = chance.choice(SWEEPS)
    moments = [n for n in arena.whole(setting).at("sweep.jsonl") if "write" in arena.whole(setting).moments[n]]
    with arena.place(setting) as place:
        place.finish([kill(chance.choice(moments), "tear")])


def _killed_sweep(arena: Arena, chance: random.Random, setting: Setting) -> None:
    whole = arena.whole(setting)
    with arena.place(setting) as place:
        place.finish([kill(moment(chance, whole), "kill-main") for _ in range(chance.randint(1, 3))])


@kind("kill-job", 26, 38, full=20)
def kill_a_job(arena: Arena, chance: random.Random) -> None:
    """Kill whichever process of a sweep is at work: a job fails, and the resumed sweep trains it."""
    setting = chance.choice([setting for setting in FORGIVING if setting.is_sweep])
    whole = arena.whole(setting)
    with arena.place(setting) as place:
        place.finish([kill(moment(chance, whole)) for _ in range(chance.randint(1, 3))])


@kind("power-end", 40, thin=1, full=15)
def lose_power_at_the_end(arena: Arena, chance: random.Random) -> None:
    """Lose power when the results of a run are written; mostly later, while its page is written.

    Results that are on the disk say that the run is finished: what they do not wait for is not written again. Only a
    page, which is written after them, makes that time longer than an instant.
    """
    if chance.random() < 0.75:
        setting, file = chance.choice(PAGED), "report.html"
    else:
        setting, file = chance.choice(RUNS), "results.json"
    whole = arena.whole(setting)
    with arena.place(setting) as place:
        place.finish([kill(chance.randrange(min(whole.at(file)), len(whole.moments)), "power")])


@kind("power", 40, thin=1, full=60)
def lose_power(arena: Arena, chance: random.Random) -> None:
    """Kill a run or sweep, and undo what it had not flushed to the disk."""
    setting = chance.choice(SETTINGS)
    whole = arena.whole(setting)
    with arena.place(setting) as place:
        place.finish([kill(moment(chance, whole), "power") for _ in range(chance.randint(1, 2))])
