"""Run folders with links, pipes and folders in place of files: nothing outside changes, and nothing hangs."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers.fork_server import ForkServer
from helpers.runs import exit_code, train_in

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_hang")]

WORDS = ("model=ann", "epochs=1", "debug.gradients=true")
REPLACEMENTS = ("link", "hard link", "link to nothing", "pipe", "folder")
COMMANDS = {
    "resume": ("train", "resume={run}", "epochs=2"),
    "evaluate": ("trainer", "evaluate", "{run}", "--calibrate"),
    "predict": ("trainer", "predict", "{run}", "x.png", "--calibrated"),
    "report": ("trainer", "report", "{run}"),
    "compare": ("trainer", "compare", "{run}", "{other}"),
    "list": ("trainer", "list", "runs"),
    "export": ("trainer", "export", "{run}", "--format", "state_dict"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was evaluated and calibrated."""
    run = train_in(tmp_path_factory.mktemp("whole"), *WORDS)
    assert exit_code("trainer", "evaluate", run, "--calibrate") == 0
    return run


def replace(path: Path, by: str, outside: Path) -> None:
    """Put something else in the place of a file or folder; what it leads to is in the folder `outside`."""
    target = outside / path.name
    is_folder = path.is_dir()
    path.rename(target)
    if by == "link":
        path.symlink_to(target)
    elif by == "hard link" and not is_folder:
        os.link(target, path)
    elif by == "link to nothing":
        path.symlink_to(outside / "nothing")
    elif by == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
        (path / "mine").write_text("mine")


def content(folder: Path) -> dict[str, bytes | None]:
    """Return the bytes of all files at or below a folder; None stands for a folder."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def names() -> Iterator[str]:
    """Yield what a run leaves behind."""
    yield from (
        "checkpoints",
        "checkpoints/best.pt",
        "checkpoints/last.pt",
        "config.yaml",
        "results.json",
        "details.json",
        "split.csv",
        "predictions.csv",
        "samples.png",
        "summary.json",
    )
    yield from ("metrics.csv", "gradients.csv", "gradients.png", "train.log", "run.lock", "report.html", "curves.png")
    yield from ("confusion_matrix.png", "mistakes.png", "evaluation-1.json", "evaluation-1.png", "calibration.json")


def attempt(whole: Path, name: str, by: str, command: str) -> None:
    """Run a command on a copy of a run in which `name` is replaced; fail if anything outside changes."""
    here = Path.cwd()
    run = here / "outputs/2026-01-01/10-00-00-run"
    outside = here / "outside"
    shutil.copytree(whole, run, symlinks=True)
    outside.mkdir()
    replace(run / name, by, outside)
    before = content(outside)
    program, *words = COMMANDS[command]
    Image.new("L", (8, 8)).save("x.png")
    assert exit_code(program, *(word.format(run=run, other=whole) for word in words)) in (0, 1, 2)
    assert content(outside) == before


def test_every_file_of_a_run_is_tried(whole: Path) -> None:
    assert sorted(str(path.relative_to(whole)) for path in whole.rglob("*")) == sorted(names())


def thinned(cases: Iterable[tuple[str, ...]], thin: set[tuple[str, ...]]) -> list[Any]:
    """Return the cases as parameters of a test; only those in `thin` are in the default suite."""
    return [
        pytest.param(case, id="-".join(case), marks=[] if case in thin else pytest.mark.exhaustive) for case in cases
    ]


THIN = {
    ("train.log", "link", "resume"),
    ("train.log", "pipe", "resume"),
    ("run.lock", "pipe", "resume"),
    ("checkpoints", "link", "resume"),
    ("metrics.csv", "hard link", "resume"),
    ("results.json", "pipe", "list"),
    ("split.csv", "link to nothing", "resume"),
    ("predictions.csv", "link", "resume"),
    ("calibration.json", "link", "evaluate"),
    ("evaluation-1.json", "pipe", "report"),
}


@pytest.mark.parametrize("case", thinned(itertools.product(names(), REPLACEMENTS, COMMANDS), THIN))
def test_nothing_outside_a_run_folder_changes(case: tuple[str, str, str], whole: Path) -> None:
    attempt(whole, *case)


SWEEP = ("-m", "model=ann", "seed=0,1", "max_steps=1", "plots=true", "threads=1")
JOB = "001-seed=1"
PLANTED = "002-seed=2"  # the folder of the job that the resumed sweep adds
IN_SWEEP = [
    *("sweep.jsonl", "sweep.lock", "leaderboard.csv", "leaderboard.html", JOB, f"{JOB}/results.json"),
    *(f"{JOB}/metrics.csv", f"{JOB}/checkpoints", f"{JOB}/config.yaml", f"{JOB}/split.csv", PLANTED),
    *(f"{PLANTED}/{name}" for name in ("train.log", "run.lock", "checkpoints", "metrics.csv", "results.json")),
]
THIN_SWEEP = {(f"{PLANTED}/train.log", "link"), (PLANTED, "link"), ("sweep.jsonl", "hard link"), ("sweep.lock", "pipe")}


@pytest.fixture(scope="module")
def whole_sweep(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished sweep of two jobs."""
    with contextlib.chdir(tmp_path_factory.mktemp("sweep")):
        done = server.start(*SWEEP).end()
        assert done.code == 0, done.err
        return done.folder.resolve()


@pytest.mark.parametrize("case", thinned(itertools.product(IN_SWEEP, REPLACEMENTS), THIN_SWEEP))
def test_nothing_outside_a_sweep_folder_changes(case: tuple[str, str], whole_sweep: Path, server: ForkServer) -> None:
    name, by = case
    folder, outside = Path("outputs/2026-01-01/10-00-00-sweep").absolute(), Path("outside")
    shutil.copytree(whole_sweep, folder, symlinks=True)
    if name.startswith(PLANTED):
        shutil.copytree(folder / JOB, folder / PLANTED)
    outside.mkdir()
    replace(folder / name, by, outside.absolute())
    before = content(outside)
    done = server.start("-m", f"resume={folder}", "seed=0,1,2", "sweep.stack=false").end()
    assert done.code in (0, 1, 2), done.err
    assert "Traceback" not in done.err
    assert content(outside) == before
    if name.startswith(PLANTED):
        assert PLANTED in (folder / "sweep.jsonl").read_text()  # the job went there
