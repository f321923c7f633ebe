"""sweep.jsonl: append-only, repaired after a torn write, and read without being trusted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.sweeps import TINY, ledger, places, results, states, table
from trainer.errors import UserError
from trainer.records.ledger import FORMAT, STATES, Ledger

WORDS = ("-m", *TINY, "seed=0,1,2", "epochs=1", "test=false")


@pytest.fixture(scope="module")
def made(server, tmp_path_factory) -> Path:
    """A finished sweep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("made"))
        done = server.start(*WORDS).end()
    assert done.code == 0, done.err
    return done.folder


@pytest.fixture
def finished(made: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, "outputs/2026-01-01/00-00-00-sweep"))


def rewrite(folder: Path, lines: list[Any]) -> bytes:
    """Puts these lines in the ledger's place; of text as they are."""
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / "sweep.jsonl").write_text(text)
    return text.encode()


@pytest.fixture
def pending(finished: Path) -> Path:
    """Return a sweep that looks as if it was killed before its first job."""
    rewrite(finished, ledger(finished)[:4])
    for place in places(finished):
        shutil.rmtree(place)
    return finished


def test_each_change_of_state_is_a_line_more(made: Path) -> None:
    header, *lines = ledger(made)
    assert header["sweep"] == FORMAT
    assert header["words"] == list(WORDS[1:])
    for number, place in enumerate(places(made)):
        own = [line for line in lines if line["job"] == number]
        assert [line["state"] for line in own] == ["pending", "running", "done"]
        assert own[0]["stored"]["seed"] == own[0]["varies"]["seed"] == number
        assert own[-1]["value"] == results(place)["valid"]["loss"]
    times = [line["time"] for line in (header, *lines)]
    assert times == sorted(times)
    assert len({line["id"] for line in lines if "id" in line}) == 3


def test_a_resumption_only_adds(finished: Path, sweep) -> None:
    path = finished / "sweep.jsonl"
    whole = path.read_bytes()
    before = table(finished)
    torn = whole[: whole.rindex(b'{"time"') + 7]  # in the middle of the last line
    path.write_bytes(torn)
    kept = torn[: torn.rindex(b"\n") + 1]
    done = sweep(f"resume={finished}")
    assert done.code == 0, done.err
    assert path.read_bytes().startswith(kept)
    assert set(states(finished).values()) == {"done"}
    assert table(finished) == before


def test_a_torn_last_line_is_cut_off_wherever_it_is_torn(finished: Path) -> None:
    path = finished / "sweep.jsonl"
    whole = path.read_bytes()
    last = whole[:-1].rindex(b"\n") + 1
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        opened = Ledger.open(finished)
        opened.change(opened.entries[0], "failed", "no reason")
        opened.close()
        assert path.read_bytes().startswith(whole[:last])
        assert len(ledger(finished)) == whole[:last].count(b"\n") + 1
        again = Ledger.open(finished)
        assert [entry.state for entry in again.entries].count("done") == 1
        assert (again.entries[0].state, again.entries[0].reason) == ("failed", "no reason")
        again.close()


def test_jobs_that_were_never_written_are_not_forgotten_in_silence(pending: Path, sweep) -> None:
    whole = (pending / "sweep.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    for kept in (lines[0], b"".join(lines[:2]), b"".join(lines[:3]) + lines[3][:40], b"", lines[0][:10]):
        (pending / "sweep.jsonl").write_bytes(kept)
        done = sweep(f"resume={pending}")
        assert "Traceback" not in done.err
        if done.code == 0:
            assert len(states(pending)) == 3
        else:
            assert done.code == 2
            assert str(pending) in done.err


@pytest.mark.parametrize("text", ["", "[]", "7", "null", '"x"', "{}", '{"sweep": 1', "\x00", "[" * 100_000])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_damaged_line_is_named(finished: Path, number: int, text: str) -> None:
    lines: list[Any] = ledger(finished)
    lines[number - 1] = text
    before = rewrite(finished, lines)
    with pytest.raises(UserError) as raised:
        Ledger.open(finished)
    assert "sweep.jsonl" in str(raised.value)
    assert f"line {number}" in str(raised.value)
    assert (finished / "sweep.jsonl").read_bytes() == before


def test_the_states_are_known_and_the_format_is_not_newer(finished: Path) -> None:
    lines = ledger(finished)
    assert {line["state"] for line in lines[1:]} <= set(STATES)
    rewrite(finished, [*lines, {**lines[-1], "state": "finished"}])
    with pytest.raises(UserError, match=f"line {len(lines) + 1}"):
        Ledger.open(finished)
    for other in (FORMAT + 1, "1", None, 1.5, [1]):
        rewrite(finished, [{**lines[0], "sweep": other}, *lines[1:]])
        with pytest.raises(UserError, match="format"):
            Ledger.open(finished)


def test_a_number_that_was_changed_by_a_flipped_bit_is_noticed(finished: Path) -> None:
    path = finished / "sweep.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"batch_size": 64', '"batch_size": 65', 1))
    assert text != path.read_text()
    with pytest.raises(UserError, match="its checksum is wrong"):
        Ledger.open(finished)


def test_a_ledger_too_large_to_be_one_is_not_read(finished: Path) -> None:
    with open(finished / "sweep.jsonl", "r+b") as file:
        file.truncate((1 << 30) + 1)  # of zeros that take no room
    with pytest.raises(UserError, match="bytes are more than the"):
        Ledger.open(finished)


def test_a_running_sweep_is_left_alone(server, sweep) -> None:
    running = server.start("-m", *TINY, "seed=0,1", "epochs=900", "patience=null", "test=false")
    running.until(lambda folder: (folder / "sweep.jsonl").exists() and "running" in states(folder).values())
    for word in (f"resume={running.folder}", f"resume={running.folder / 'sweep.jsonl'}"):
        done = sweep(word)
        assert done.code == 2
        assert "running at this moment" in done.err
    assert running.end().code == 0
    assert [line["state"] for line in ledger(running.folder)[1:]].count("running") == 2


def part(name: str, **values: Any) -> Callable[[dict], None]:
    return lambda line: line["stored"][name].update(values)


HOSTILE: dict[str, Callable[[dict], Any]] = {
    "name above": lambda line: line.update(name="../../canary"),
    "name absolute": lambda line: line.update(name=str(Path("canary").resolve())),
    "name within": lambda line: line.update(name="000-x/../../../canary"),
    "name empty": lambda line: line.update(name=""),
    "name dots": lambda line: line.update(name=".."),
    "name newline": lambda line: line.update(name="000-x\n"),
    "name number": lambda line: line.update(name=7),
    "job": lambda line: line.update(job=7),
    "job text": lambda line: line.update(job="0"),
    "job negative": lambda line: line.update(job=-1),
    "stored list": lambda line: line.update(stored=[]),
    "stored text": lambda line: line.update(stored="x"),
    "stored number": lambda line: line.update(stored=3),
    "stored empty": lambda line: line.update(stored={}),
    "choices": lambda line: line.update(choices=["model"]),
    "overrides": lambda line: line.update(overrides=3),
    "varies": lambda line: line.update(varies=[1]),
    "system": part("model", _target_="os.system"),
    "own code": part("model", _target_="evil.Net"),
    "own data": part("data", _target_="evil.Data"),
    "own code, trusted by itself": lambda line: (
        line["stored"].update(trust=True) or part("model", _target_="evil.Net")(line)
    ),
    "environment": part("data", root="${oc.env:HOME}"),
    "decode": lambda line: line["stored"].update(name="${oc.decode:'[1]'}"),
    "deep": part("model", hidden=json.loads("[" * 500 + "]" * 500)),
    "wide": part("model", hidden=[10**14]),
    "long number": lambda line: line["stored"].update(epochs=10**400),
    "wrong type": lambda line: line["stored"].update(epochs="many"),
    "unknown key": lambda line: line["stored"].update(epocks=3),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_foreign_ledger_runs_no_code_and_leads_nowhere(what: str, pending: Path, train) -> None:
    Path("evil.py").write_text("import pathlib\npathlib.Path('canary').touch()\nclass Net: pass\nData = Net\n")
    lines = ledger(pending)
    HOSTILE[what](lines[1])
    rewrite(pending, lines)
    before = set(Path.cwd().parent.rglob("*"))
    done = train(f"resume={pending}")
    assert done.code == 2, done.err
    assert done.err.startswith("train: error: ")
    assert "Traceback" not in done.err
    assert {path.name for path in set(Path.cwd().parent.rglob("*")) - before} <= {"sweep.lock"}
    assert not Path("canary").exists()


@pytest.mark.parametrize(("kept", "more"), [(1, []), (7, ["seed=7"]), (1, ["seed=7"])])
def test_the_words_of_a_foreign_ledger_run_no_code_either(kept: int, more: list[str], finished: Path, train) -> None:
    Path("evil.py").write_text("import pathlib\npathlib.Path('canary').touch()\nNet = None\n")
    lines = ledger(finished)
    lines[0]["words"] = ["data=iris", "model=ann", "model._target_=evil.Net", "~model.hidden", "~model.dropout"]
    rewrite(finished, lines[:kept] if kept == 1 else lines)
    done = train("-m", f"resume={finished}", *more)
    assert done.code == 2, done.err
    assert "trust=true" in done.err
    assert not Path("canary").exists()
