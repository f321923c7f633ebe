"""Commands that start at the same moment."""

from __future__ import annotations

import random

from faults.arena import Arena, kill, moment, told_in_a_sentence
from faults.kinds import kind
from faults.outcome import Different, compare
from faults.settings import BY_NAME, RUNS, SETTINGS


@kind("starts", 22, full=5)
def start_together(arena: Arena, chance: random.Random) -> None:
    """Runs that start together have a folder each, and end alike."""
    setting = chance.choice([BY_NAME["warm-up"], BY_NAME["table"], BY_NAME["sweep"]])
    with arena.place(setting) as place:
        running = [place.begin() for _ in range(4)]
        for command in running:
            told_in_a_sentence(command.end(), 0)
        folders = [path for path in place.folder.glob("outputs/*-*/*") if path.is_dir()]
        if len(folders) != len(running):
            raise Different(f"{len(running)} runs left {len(folders)} folders")
        for folder in folders:
            compare(folder, setting, arena.whole(setting).folder)


@kind("resumes", 22, full=15)
def resume_together(arena: Arena, chance: random.Random) -> None:
    """Of resumes that start together one runs; the others say so, or that nothing is left to do."""
    setting = chance.choice([setting for setting in SETTINGS if setting not in (BY_NAME["streamed"],)])
    with arena.place(setting) as place:
        run = place.interrupt(chance)
        ended = [command.end() for command in [place.begin() for _ in range(3)]]
        for done in ended:
            told_in_a_sentence(done, 0, 2)
            assert done.code == 0 or "at this moment" in done.err, done.err
        assert any(done.code == 0 for done in ended), ended[0].err
        log = run / "train.log"
        assert setting.is_sweep or log.read_text().count("resumed    after") == 1, f"two resumed in {run}"
        place.compare()


@kind("resume-at-once", 1, full=15)
def resume_at_once(arena: Arena, chance: random.Random) -> None:
    """A run whose data workers are still alive can be resumed right after kill -9."""
    setting = BY_NAME["streamed"]
    with arena.place(setting) as place:
        place.finish([kill(moment(chance, arena.whole(setting))) for _ in range(2)])


@kind("finished", 3, full=10)
def resume_what_is_finished(arena: Arena, chance: random.Random) -> None:
    """Resuming a finished run changes no file that counts."""
    setting = chance.choice(RUNS)
    with arena.place(setting) as place:
        told_in_a_sentence(place.start(), 0)
        assert place.run is not None
        before = {path: path.read_bytes() for path in place.run.rglob("*.*") if path.is_file()}
        told_in_a_sentence(place.start(), 0)
        assert before == {path: path.read_bytes() for path in place.run.rglob("*.*") if path.is_file()}
