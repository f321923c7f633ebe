"""Damage to files that are read back: refused, replaced by what was saved before, or without consequence."""

from __future__ import annotations

import random
from pathlib import Path

from faults.arena import Arena, told_in_a_sentence
from faults.kinds import kind
from faults.outcome import Different, Lost
from faults.settings import BY_NAME, RUNS, SWEEPS, Setting

PAGE = 4096


def damage(path: Path, chance: random.Random) -> str:
    """Damage a file in place as disks and people do; return how."""
    content = bytearray(path.read_bytes())
    way = chance.choice(["flip", "flip", "flip", "cut", "zero", "empty", "append"])
    at = chance.randrange(len(content)) if content else 0
    match way:
        case "flip" if content:
            content[at] ^= 1 << chance.randrange(8)
        case "cut":
            del content[at:]
        case "zero":
            start = at // PAGE * PAGE
            content[start : start + PAGE] = bytes(len(content[start : start + PAGE]))
        case "empty":
            content.clear()
        case "append":
            content += chance.randbytes(chance.randint(1, 600))
    path.write_bytes(content)
    return f"{way} at {at}"


def files_of(folder: Path) -> list[Path]:
    """Return the files of a run or sweep, in a fixed order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def read_back(folder: Path) -> list[Path]:
    """Return the files from which a run or sweep continues: those of finished jobs of a sweep are not among them."""
    return [
        path
        for path in files_of(folder)
        if not (path.parent / "results.json").exists() and not (path.parent.parent / "results.json").exists()
    ]


def _resume_damaged(arena: Arena, chance: random.Random, setting: Setting, name: str | None = None) -> None:
    """Interrupt a setting, damage one of its files, and resume it."""
    with arena.place(setting) as place:
        run = place.interrupt(chance)
        paths = [path for path in read_back(run) if name is None or path.name == name]
        if not paths:
            return
        path = chance.choice(paths)
        where = f"{damage(path, chance)} of {path.relative_to(run)}"
        arena.faults += 1
        spared = path.name == "last.pt" and not setting.is_sweep  # it was saved twice
        done = place.start()
        try:
            told_in_a_sentence(done, *((0,) if spared else (0, 1, 2)))
            if done.code == 0:
                place.compare()
        except (Different, Lost) as error:
            raise type(error)(f"{where}: {error}") from error
        except AssertionError as error:
            raise AssertionError(f"{where} in {place.folder}: {error}") from error


@kind("damage-checkpoint", 9, 10, thin=1, full=60)
def damage_a_checkpoint(arena: Arena, chance: random.Random) -> None:
    """The checkpoint before is used, and the run ends as if nothing had been."""
    _resume_damaged(arena, chance, chance.choice(RUNS), chance.choice(["last.pt", "last.pt", "previous.pt", "best.pt"]))


@kind("damage-run", 10, thin=1, full=60)
def damage_a_file_of_a_run(arena: Arena, chance: random.Random) -> None:
    _resume_damaged(arena, chance, chance.choice(RUNS))


@kind("damage-sweep", 10, full=40)
def damage_a_file_of_a_sweep(arena: Arena, chance: random.Random) -> None:
    _resume_damaged(arena, chance, chance.choice(SWEEPS))


@kind("damage-ledger", 10, full=20)
def damage_a_ledger(arena: Arena, chance: random.Random) -> None:
    _resume_damaged(arena, chance, chance.choice(SWEEPS), "sweep.jsonl")


@kind("damage-finished", 10, full=40)
def damage_what_is_evaluated(arena: Arena, chance: random.Random) -> None:
    """`trainer evaluate` of a damaged run gives the figures of the sound one, or none."""
    setting = BY_NAME[chance.choice(["plain", "table", "photos"])]
    with arena.place(setting) as place:
        done = place.start()
        assert place.run is not None, done.err
        sound = _figures(place.verb("evaluate", str(place.run)).out)
        assert sound
        path = chance.choice([*sorted((place.run / "checkpoints").iterdir()), place.run / "config.yaml"])
        where = f"{damage(path, chance)} of {path.name}"
        arena.faults += 1
        done = place.verb("evaluate", str(place.run))
        told_in_a_sentence(done, 0, 1, 2)
        if done.code == 0 and _figures(done.out) != sound:
            raise Different(f"{setting.name}, {where}: {_figures(done.out)} instead of {sound}")


def _figures(out: str) -> list[str]:
    """Return the lines of an evaluation that hold figures, without speed and paths."""
    return [line for line in out.splitlines() if "accuracy" in line and "samples/s" not in line]


@kind("damage-cache", 10, thin=1, full=30)
def damage_the_cache_of_images(arena: Arena, chance: random.Random) -> None:
    """Damaged pixels in the cache of decoded images are noticed and decoded again."""
    setting = BY_NAME["cached"]
    with arena.place(setting) as place:
        place.interrupt(chance)
        [path] = place.folder.glob("cache/**/*.rows")
        where = damage(path, chance)
        arena.faults += 1
        try:
            place.finish([])
        except (Different, Lost) as error:
            raise type(error)(f"{where}: {error}") from error
