"""A stacked sweep that is killed anywhere and resumed ends like an uninterrupted one."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.injection import plan
from helpers.faulty_models import write_patient
from helpers.fork_server import ForkServer
from helpers.processes import NO_PROC, processes_in, wait_for_end, wait_until
from helpers.runs import CompletedCommand
from helpers.stacks import DOUBLE, STACK, close, end_of, ends, last, lines, owned, same_sweeps, stacks
from helpers.sweeps import contents, ledger, places, results, rows, states, table
from trainer.training import checkpoint
from trainer.training.archive import sealed

pytestmark = [pytest.mark.slow, pytest.mark.skipif(NO_PROC, reason="processes are found in /proc")]
IRIS = ("-m", *DOUBLE, "data=iris", "model=mlp", "model.hidden=[8]", "test=false", "patience=null")
# One diverges, some stop early, none has the epochs of the others.
PATIENT = (
    *("optim=sgd", "optim.lr=0.05,0.5,1e30", "patience=2,50", "epochs=9,12", "seed=1", "test=false"),
    *("checkpoint.every=1st", STACK),
)
STEP, STEPS = "poll fit", 24


@pytest.fixture(scope="module")
def hasty() -> Iterator[ForkServer]:
    """Its stacks are saved whenever they may be, so that kills find them at all stages."""
    server = ForkServer({"trainer.stack.checkpoint.SECONDS": 0.0})
    yield server
    server.close()


@pytest.fixture(scope="module")
def whole(hasty: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted sweep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        done = begin(hasty)
        assert done.folder is not None, done.err
        assert set(states(done.folder).values()) == {"done", "diverged"}
        assert len({results(place)["epochs"] for place in places(done.folder)}) > 2
        return done.folder.resolve()


def begin(server: ForkServer, faults: dict[str, Any] | None = None) -> CompletedCommand:
    done = server.start("-m", *write_patient(), *PATIENT, faults=faults).end()
    wait_for_end(processes_in(Path.cwd()))
    return done


def again(server: ForkServer, folder: Path | None, faults: dict[str, Any] | None = None) -> CompletedCommand:
    """Resume the sweep, or begin it if nothing has been written yet; return when all its processes have ended."""
    if not folder or not places(folder):
        return begin(server, faults)
    done = server.start(f"resume={folder}", "trust=true", faults=faults).end()
    wait_for_end(processes_in(Path.cwd()))
    return done


def saved(folder: Path) -> list[Path]:
    """Return the checkpoints of a stack if there are both."""
    checkpoints = sorted(folder.glob("stack-*/*.pt"))
    return checkpoints if len(checkpoints) == 2 else []


@pytest.mark.parametrize(
    ("victim", "count"),
    [
        ("kill-main", 2),
        *(pytest.param(victim, 4, marks=pytest.mark.exhaustive) for victim in ("kill-main", "kill-child")),
    ],
)
def test_killed_stacks_end_like_uninterrupted_ones(victim: str, count: int, whole: Path, hasty: ForkServer) -> None:
    chance, kills, left, folder = random.Random(victim), 0, 0, None
    while kills < count or folder:
        fault = plan(victim, chance.randrange(STEPS), STEP) if kills < count else None
        done = again(hasty, folder, fault)
        folder = done.folder
        finished = folder is not None and set(states(folder).values()) == {"done", "diverged"}
        if finished and done.code != -signal.SIGKILL:  # else maybe before the table was written
            assert same_sweeps(folder, whole, 1e-10)
            folder = None
            continue
        kills += 1
        left += bool(folder and saved(folder))
        if victim == "kill-child":
            failed = [number for number, state in states(folder).items() if state == "failed"]
            assert done.err.count("killed by SIGKILL") == len(failed)
    assert left > 1 or victim == "kill-main"  # whose worker saves its members itself


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.exhaustive),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.exhaustive),
    ],
)
def test_a_signal_lets_all_members_save(number: int, code: int, whole: Path, hasty: ForkServer) -> None:
    done = begin(hasty, plan("signal-main", 9, STEP, number=int(number), heard=True))
    assert done.code == code
    assert all(" diverged: " in line for line in done.err.splitlines())
    statuses = [results(place)["status"] for place in places(done.folder)]
    assert "interrupted" in statuses
    assert "stack" not in "".join(path.name for path in done.folder.rglob("*.pt"))
    assert all(last(place)["run"]["step"] for place in places(done.folder) if results(place)["status"] == "interrupted")
    done = again(hasty, done.folder)
    assert same_sweeps(done.folder, whole, 1e-10)


def test_ctrl_c_while_it_is_measured_leaves_nothing(server: ForkServer) -> None:
    words = (*write_patient(), "model.fault=waits", "model.at=1", "seed=range(30)", "data.seed=0")
    running = server.start("-m", *words, "sweep.stack=auto")
    wait_until(Path("waiting").exists)
    measuring = running.workers()
    for pid in (running.pid, *measuring):
        os.kill(pid, signal.SIGINT)
    done = running.end()
    assert (done.code, done.err, done.out, done.folder) == (130, "", "", None)
    assert len(measuring) == 1
    wait_for_end(measuring)


def half_done(server: ForkServer) -> Path:
    """Return a sweep whose stack was killed when it had saved several times."""
    done = begin(server, plan("kill-child", 9, STEP))
    assert done.code == 1
    assert len(saved(done.folder)) == 2
    assert set(states(done.folder).values()) == {"failed"}
    return done.folder


def test_of_a_damaged_file_the_one_before_is_taken(whole, hasty: ForkServer) -> None:
    folder = half_done(hasty)
    newest, _ = saved(folder)
    content = bytearray(newest.read_bytes())
    content[content.index(b"members")] ^= 1
    newest.write_bytes(content)
    done = hasty.start(f"resume={folder}", "trust=true").end()
    assert f"{newest} is damaged: " in done.out
    for place in places(folder)[:8]:
        log = (place / "train.log").read_text().splitlines()
        assert [line for line in log if line.startswith("resumed ")]
        assert len([line for line in log if line[:6].strip().isdecimal()]) == len(rows(place / "metrics.csv"))
    assert same_sweeps(folder, whole, 1e-10)
    files = [path for place in places(folder) for path in place.glob("checkpoints/*.pt")]
    assert "previous.pt" in {path.name for path in files}  # what was dealt out
    assert all(owned(checkpoint.load(path)) for path in files)


def test_a_member_that_cannot_go_on_leaves_the_others_their_stack(whole: Path, hasty: ForkServer) -> None:
    done = begin(hasty, plan("signal-main", 9, STEP, number=int(signal.SIGTERM), heard=True))
    spoilt, other = [place for place in places(done.folder) if results(place)["status"] == "interrupted"][:2]
    for path in spoilt.glob("checkpoints/[lp]*.pt"):
        path.write_bytes(b"")
    others = [place for place in places(done.folder) if place != spoilt]
    torn = other / "checkpoints" / ".last.pt.1234.tmp"
    torn.write_bytes(b"half of it")
    done = again(hasty, done.folder)
    assert done.code == 1
    assert [line for line in done.err.splitlines() if "start the run again" in line]
    assert results(spoilt)["status"] == "failed"
    assert {results(place)["status"] for place in others} <= {"completed", "early_stopped", "diverged"}
    assert not torn.exists()


@pytest.mark.parametrize(
    "name",
    ["../elsewhere", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("/tmp/elsewhere", "stack-000"))],
)
def test_a_file_that_is_not_this_sweeps_is_refused_in_a_sentence(name: str, hasty: ForkServer, tmp_path: Path) -> None:
    folder = half_done(hasty)
    for path in saved(folder):
        content = checkpoint.load(path)
        content["members"][0]["name"] = name
        path.write_bytes(sealed(content))
    done = hasty.start(f"resume={folder}", "trust=true").end()
    assert done.code == 1
    [line] = done.err.splitlines()
    assert line.startswith("train: error: ")
    assert "stack-" in line
    assert not list(tmp_path.rglob("elsewhere"))
    assert not Path("/tmp/elsewhere").exists()


@pytest.mark.parametrize("name", ["short", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in (["x"], 7))])
def test_a_stack_whose_files_are_all_damaged_costs_what_its_runs_had_not_saved(
    name: Any, whole, hasty: ForkServer
) -> None:
    folder = half_done(hasty)
    for path in saved(folder):
        content = checkpoint.load(path)
        content["members"][0]["name"] = name
        path.write_bytes(sealed(content))
        if name == "short":
            path.write_bytes(path.read_bytes()[:-100])
    done = hasty.start(f"resume={folder}", "trust=true").end()
    assert "no good checkpoint is left; its runs continue from their own checkpoints" in done.out
    assert same_sweeps(folder, whole, 1e-10)


def test_a_file_cannot_touch_a_job_that_is_done(hasty: ForkServer) -> None:
    folder = hasty.start(*IRIS, "seed=0,1", "epochs=1").end().folder
    own = places(folder)[0] / "checkpoints" / "last.pt"
    content = checkpoint.load(own)
    run = {**content.pop("run"), "step": 10**9}
    (folder / "stack-000").mkdir()
    member = {"name": places(folder)[0].name, "about": content, "run": run}
    checkpoint.save(folder / "stack-000" / "last.pt", {"members": [member]})
    before = own.read_bytes()
    assert hasty.start(f"resume={folder}").end().code == 0
    assert own.read_bytes() == before


@pytest.mark.parametrize("fault", [pytest.param("raises", marks=pytest.mark.exhaustive), "killed"])
def test_what_ends_a_stack_ends_its_members_and_no_others(fault: str, sweep) -> None:
    words = ("-m", *write_patient(), "test=false", "seed=0,1,2", "epochs=15", "model.width=4,6")
    whole = sweep(*words, STACK)
    done = sweep(*words, f"model.fault={fault},none", "sweep.stack=3")
    reason = "ValueError: no good" if fault == "raises" else "killed by SIGKILL (out of memory?)"
    assert stacks(done.folder) == [[0, 1, 2], [6, 7, 8], [3, 4, 5], [9, 10, 11]] or len(stacks(done.folder)) == 4
    found = ["failed" if "fault=none" not in place.name else "done" for place in places(done.folder)]
    assert list(states(done.folder).values()) == found
    assert found.count("failed") == 6
    assert done.err.count(reason) == len(done.err.splitlines()) == 6
    for place, state in zip(places(done.folder), found, strict=True):
        assert state == "done" or results(place)["error"] == reason
    Path("cured").touch()
    done = sweep(f"resume={done.folder}", "trust=true")
    assert (done.code, done.err) == (0, "")
    fine = {place.name.partition("-")[2]: end_of(place) for place in places(whole.folder)}
    for place in places(done.folder):
        name = place.name.partition("-")[2].replace(f"model.fault={fault}", "").replace("model.fault=none", "")
        assert close(end_of(place), fine[",".join(filter(None, name.split(",")))], 1e-10)


def test_members_that_had_ended_are_not_lost_with_their_stack(server: ForkServer) -> None:
    words = (*write_patient(), "seed=range(24)", "data.seed=0", "epochs=1", "test=true", STACK)
    done = server.start("-m", *words, faults=plan("kill-child", 3, "write .*/.results.json")).end()
    ended = [place for place in places(done.folder) if results(place)["status"] == "completed"]
    assert len(ended) == 3
    found = states(done.folder)
    assert set(found.values()) == {"done", "failed"}
    assert {number for number, place in enumerate(places(done.folder)) if place in ended} <= {
        number for number, state in found.items() if state == "done"
    }
    before = end_of(ended[0])
    assert server.start(f"resume={done.folder}", "trust=true").end().code == 0
    assert set(states(done.folder).values()) == {"done"}
    assert close(end_of(ended[0]), before, 0)


def test_halving_prunes_the_same_jobs(sweep) -> None:
    words = (*IRIS, "optim.lr=1e-5,1e-2,1e-1,1e200", "optim=sgd", "epochs=9", "seed=0,1", "sweep.halving.factor=3")
    alone, stacked = sweep(*words), sweep(*words, STACK)
    assert stacks(stacked.folder) == [list(range(8))]
    assert states(alone.folder) == states(stacked.folder)
    assert set(states(stacked.folder).values()) == {"pruned", "done", "diverged"}
    assert same_sweeps(alone.folder, stacked.folder)


def test_a_sweep_grows_by_a_further_stack(sweep) -> None:
    first = sweep(*IRIS, "seed=0,1", "epochs=3", STACK).folder
    before = ends(first)
    done = sweep("-m", f"resume={first}", "optim.lr=1e-2,1e-1")
    assert done.code == 0, done.err
    assert stacks(first) == [[0, 1], [2, 3, 4, 5]]
    assert close(ends(first)[:2], before, 0)
    expected = sweep(*IRIS, "seed=0,1", "epochs=3", "optim.lr=1e-2,1e-1").folder
    assert close(ends(first)[2:], sorted_like(first, expected))


def sorted_like(folder: Path, other: Path) -> list[dict[str, Any]]:
    """The ends of another sweep's jobs, in the order of those that were added to the first."""
    known = {place.name.partition("-")[2]: end_of(place) for place in places(other)}
    return [known[place.name.partition("-")[2]] for place in places(folder)[2:]]


@pytest.mark.parametrize(
    ("before", "after"),
    [("true", "false"), ("false", "true"), pytest.param("false", "auto", marks=pytest.mark.exhaustive)],
)
def test_stacks_may_be_chosen_when_a_sweep_goes_on(before: str, after: str, hasty: ForkServer) -> None:
    words = ("-m", *write_patient(), "optim=sgd", "optim.lr=0.05,0.5", "seed=0,1", "epochs=8", "test=false")
    fault = plan("signal-main", 5, STEP, number=int(signal.SIGTERM), heard=True)
    stopped = hasty.start(*words, f"sweep.stack={before}", "checkpoint.every=1st", faults=fault).end()
    assert stopped.code == 143, stopped.err
    done = hasty.start(f"resume={stopped.folder}", "trust=true", f"sweep.stack={after}").end()
    assert (done.code, done.err) == (0, "")
    assert len(lines(done.out)) == (after != "false")
    assert after != "true" or len(stacks(done.folder)) == 1
    assert [line for line in ledger(done.folder) if "why" in line]
    whole = hasty.start(*words).end()
    assert close(table(whole.folder), table(done.folder), 1e-10)
    for one, other in zip(ends(whole.folder), ends(done.folder), strict=True):
        assert close(one, other, 1e-10)


def test_a_job_whose_state_its_stack_still_holds_does_not_begin_anew(hasty: ForkServer, sweep) -> None:
    folder = begin(hasty, plan("kill-all", 9, STEP)).folder  # before its worker gives each run what is its own
    place = next(path for path in places(folder) if (path / "config.yaml").exists())
    before = contents(place)
    done = sweep(f"resume={place}", "trust=true")
    assert done.code == 2
    assert f"train resume={folder.resolve()} " in done.err
    assert contents(place) == before
    assert sweep(f"resume={folder}", "trust=true").code == 1  # one diverges
    done = sweep(f"resume={place}", "trust=true")
    assert "one pass" not in done.err
