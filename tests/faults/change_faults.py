"""Changes between the start of a run and its resumption: configuration, data, links and pipes in its folder."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from faults.arena import Arena, told_in_a_sentence
from faults.damage_faults import files_of
from faults.kinds import kind
from faults.outcome import Different
from faults.settings import BY_NAME, RUNS

FIXED = ("batch_size=32", "optim.lr=0.5", "seed=7", "model.hidden=[5]", "data.valid_fraction=0.3", "clip_norm=9.0")
FREE = ("data.workers=1", "plots=false", "name=other", "max_steps=100000", "checkpoint.every=5st", "logger=csv")


@kind("change-key", 27, full=20)
def change_a_key(arena: Arena, chance: random.Random) -> None:
    """A key that changes the result is refused and nothing is touched; a free one changes nothing."""
    setting = BY_NAME["table"]
    with arena.place(setting) as place:
        run = place.interrupt(chance)
        before = {path: path.read_bytes() for path in files_of(run)}
        done = place.start(None, chance.choice(FIXED))
        told_in_a_sentence(done, 2)
        if before != {path: path.read_bytes() for path in files_of(run)}:
            raise Different("a refused resume changed the folder")
        arena.faults += 1
        told_in_a_sentence(place.start(None, chance.choice(FREE)), 0)
        place.compare()


@kind("change-data", 28, full=20)
def change_the_data(arena: Arena, chance: random.Random) -> None:
    """Another cell or another pixel is refused; what is restored goes on."""
    setting = BY_NAME[chance.choice(["table", "photos"])]
    with arena.place(setting) as place:
        run = place.interrupt(chance)
        source = chance.choice(sorted((arena.data / "photos/train").rglob("*.*")))
        source = arena.data / "people.csv" if setting.name == "table" else source
        content = source.read_bytes()
        try:
            source.write_bytes(_changed(source, content, chance))
            done = place.start()
            told_in_a_sentence(done, 2)
        finally:
            source.write_bytes(content)
        arena.faults += 1
        assert run == place.run
        place.finish([])


def _changed(path: Path, content: bytes, chance: random.Random) -> bytes:
    """Return the content with another number in a row of a table, or another image of the same class."""
    if path.suffix == ".csv":
        lines = content.splitlines(keepends=True)
        row = chance.randrange(1, len(lines))
        cells = lines[row].split(b";")
        cells[1] = b"%.3f" % (float(cells[1]) + 1)
        return b"".join([*lines[:row], b";".join(cells), *lines[row + 1 :]])
    others = [other for other in sorted(path.parent.glob(f"*{path.suffix}")) if other != path]
    return chance.choice(others).read_bytes()


@kind("link", 35, thin=1, full=40)
def link_a_file_elsewhere(arena: Arena, chance: random.Random) -> None:
    """A file or folder of a run that is a link, of either kind, is not followed: nothing outside changes."""
    setting = chance.choice(RUNS)
    with arena.place(setting) as place:
        run = place.interrupt(chance)
        path = chance.choice([*files_of(run), run / "checkpoints"])
        outside = place.folder / "outside"
        kept = chance.random() < 0.7 or path.is_dir()
        shutil.copytree(path, outside) if path.is_dir() else shutil.copy(path, outside)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        if kept and outside.is_file() and chance.random() < 0.4:
            os.link(outside, path)
        else:
            path.symlink_to(outside)
        if not kept:
            outside.unlink()
        before = _content(outside)
        arena.faults += 1
        told_in_a_sentence(place.start(), 0, 1, 2)
        if _content(outside) != before:
            raise Different(f"{setting.name}: what {path.relative_to(run)} points to has changed, in {place.folder}")


@kind("link-temporary", 35, full=10)
def link_a_temporary_file_elsewhere(arena: Arena, chance: random.Random) -> None:
    """A link that somebody puts where a temporary file is about to be written is not followed."""
    setting = chance.choice(RUNS)
    whole = arena.whole(setting)
    moments = [n for n, text in enumerate(whole.moments) if text.startswith("open") and "/." in text]
    with arena.place(setting) as place:
        outside = place.folder / "outside"
        outside.write_text("mine")
        done = place.start({"faults": [{"at": chance.choice(moments), "do": "link", "to": str(outside)}]})
        arena.faults += 1
        if outside.read_text() != "mine":
            raise Different(f"{setting.name}: a link at a temporary file was followed in {place.folder}")
        told_in_a_sentence(done, 0, 1, 2)
        place.finish([])


def _content(path: Path) -> dict[str, bytes] | None:
    if not path.exists():
        return None
    return {str(p.relative_to(path)): p.read_bytes() for p in (files_of(path) if path.is_dir() else [path])}


@kind("pipe", 37, full=25)
def replace_a_file_by_a_pipe(arena: Arena, chance: random.Random) -> None:
    """A named pipe in place of a file makes nothing wait; `resume=latest` and `trainer list` neither."""
    setting = chance.choice(RUNS)
    with arena.place(setting) as place:
        run = place.interrupt(chance)
        path = chance.choice([*files_of(run), run / "results.json"])
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        arena.faults += 1
        done = place.start(None)
        told_in_a_sentence(done, 0, 1, 2)
        for words in (("report", str(run)), ("evaluate", str(run)), ("compare", str(run), str(run))):
            told_in_a_sentence(place.verb(*words), 0, 1, 2)


@kind("odd-results", 21, full=10)
def damage_results_of_a_neighbour(arena: Arena, chance: random.Random) -> None:
    """A results.json of odd content in one run does not keep `resume=latest` from the other."""
    setting = BY_NAME["table"]
    with arena.place(setting) as place:
        run = place.interrupt(chance)
        other = run.with_name("00-00-00-other")
        shutil.copytree(run, other)
        text = chance.choice(["{}", "[]", "null", '{"status": 3}', "x", '{"status": "completed", "epochs": "many"}'])
        (other / "results.json").write_text(text)
        os.utime(run / "config.yaml")
        arena.faults += 1
        told_in_a_sentence(place.verb("train", "resume=latest"), 0)
        told_in_a_sentence(place.verb("train", f"resume={other}"), 0, 1, 2)


@kind("gone", 27, full=8)
def delete_a_file(arena: Arena, chance: random.Random) -> None:
    """A file that is gone is written again, or missed in a sentence."""
    setting = chance.choice(RUNS)
    with arena.place(setting) as place:
        run = place.interrupt(chance)
        path = chance.choice(files_of(run))
        path.unlink()
        arena.faults += 1
        done = place.start()
        told_in_a_sentence(done, 0, 1, 2)
        if done.code == 0 and path.name != "last.pt":
            place.compare()
