"""Shared fixtures: run the program in this process or in a child process, in an empty folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from helpers.datasets import write_photos, write_table
from helpers.fork_server import ForkServer
from helpers.processes import HANG_SECONDS, run_python
from helpers.runs import REAL_DATA, CompletedCommand, exit_code, run_folders, train_in
from helpers.words import calibrated_words, last_of_each_key
from trainer.config.compose import Composer
from trainer.config.job import Job

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(autouse=True)
def _empty_folder(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Run each test in its own folder, with its own cache, on one thread; forget the modules that it imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRAINER_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(sys, "path", list(sys.path))
    torch.set_num_threads(1)
    before = set(sys.modules)
    yield
    for name in sys.modules.keys() - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def train(capfd: pytest.CaptureFixture[str]) -> Callable[..., CompletedCommand]:
    """Run `train` in this process; without plots unless `plots` is set."""

    def run(*words: str) -> CompletedCommand:
        before = run_folders()
        resumed = [Path(word.partition("=")[2]) for word in words if word.startswith("resume=")]
        plots = () if any(word.startswith(("plots=", "resume=")) for word in words) else ("plots=false",)
        code = exit_code("train", *words, *plots)
        out, err = capfd.readouterr()
        folders = [*sorted(run_folders() - before), *(path for path in resumed if path.exists())]
        return CompletedCommand(code, out, err, folders[0].resolve() if folders else None)

    return run


@pytest.fixture
def train_process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m trainer` in a child process."""
    return lambda *words, **options: run_python("-m", "trainer", *words, **options)


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """Start commands in child processes that need not import torch again."""
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def sweep(server: ForkServer) -> Callable[..., CompletedCommand]:
    """Run a command, usually a sweep, in a child process."""
    return lambda *words, **environment: server.start(*words, **environment).end()


@pytest.fixture(scope="session")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """Open a page in a headless browser; return the document that its script leaves."""
    program = os.environ.get("TRAINER_TEST_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no chromium; TRAINER_TEST_BROWSER names another browser of its kind")

    def open_page(path: Path) -> str:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--allow-file-access-from-files"]
        flags += [f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--virtual-time-budget=5000", "--dump-dom"]
        words = [program, *flags, path.resolve().as_uri()]
        return subprocess.run(words, capture_output=True, text=True, timeout=HANG_SECONDS, check=True).stdout

    return open_page


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collect the figures that are saved during the test."""
    saved: list[Figure] = []
    save = Figure.savefig

    def savefig(figure: Figure, *arguments: Any, **options: Any) -> None:
        saved.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved


@pytest.fixture
def job() -> Callable[..., Job]:
    """Compose one job and fail on problems."""

    composers: list[Composer] = []  # created at the first call, in the test's folder

    def compose(*words: str) -> Job:
        composer = composers[0] if composers else Composer()
        composers.append(composer)
        overrides, problems = composer.read(last_of_each_key(words), sweep=False)
        composed = composer.job(overrides)
        assert not problems + composed.problems
        return composed

    return compose


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the folder of a run with these overrides, trained once for all tests on one thread; read-only."""
    folders: dict[tuple[str, ...], Path] = {}

    def run(*words: str) -> Path:
        if words not in folders:
            torch.set_num_threads(1)
            folders[words] = train_in(tmp_path_factory.mktemp("trained"), *words, "plots=false")
        return folders[words]

    return run


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 photographs to train on and 36 to test with, of three classes; read-only."""
    return write_photos(tmp_path_factory.mktemp("photos") / "photos")


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 rows with a category and missing values; read-only."""
    return write_table(tmp_path_factory.mktemp("table") / "people.csv")


@pytest.fixture(scope="session")
def fine_tuned(trained: Callable[..., Path], photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on these photographs whose frozen layers have weights from a file; read-only."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("weights"))
    words = calibrated_words("shufflenet_v2_x0_5")
    os.chdir(before)
    data = ("data=image_folder", f"data.root={photos}", "data.cache=false", "batch_size=8")
    return trained(*words, *data, "epochs=1", "freeze=backbone", "ema.decay=0.5")


@pytest.fixture
def verb(capfd: pytest.CaptureFixture[str]) -> Callable[..., CompletedCommand]:
    """Run `trainer VERB ...` in this process."""

    def run(*words: Any) -> CompletedCommand:
        capfd.readouterr()
        code = exit_code("trainer", *words)
        out, err = capfd.readouterr()
        return CompletedCommand(code, out, err, None)

    return run


@pytest.fixture
def no_hang() -> Iterator[None]:
    """Fail instead of waiting for ever, such as for a named pipe."""

    def late(*_: object) -> None:
        pytest.fail("this would have waited for ever")  # no Exception, which the program could handle

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(HANG_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def mnist_root() -> str:
    if not (REAL_DATA / "MNIST" / "raw").is_dir():
        pytest.skip(f"no MNIST in {REAL_DATA}; TRAINER_TEST_DATA names another folder")
    return str(REAL_DATA)
