"""The published package: the wheel works in an empty environment, and the source archive is complete."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from helpers.processes import HANG_SECONDS
from helpers.runs import REPOSITORY

pytestmark = pytest.mark.slow

pytest.importorskip("hatchling")
pytest.importorskip("pip")

CLEAN = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "TRAINER_DATA")}
RUN_FILES = {
    "config.yaml",
    "metrics.csv",
    "results.json",
    "checkpoints",
    "curves.png",
    "confusion_matrix.png",
    "mistakes.png",
    "train.log",
    "split.csv",
    "predictions.csv",
}


def call(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, cwd=cwd, env=CLEAN, timeout=HANG_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source archive."""
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", folder, cwd=REPOSITORY)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def environment(archives: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel; the libraries are those of the environment of these tests."""
    folder = tmp_path_factory.mktemp("venv") / "venv"
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    call(sys.executable, "-m", "pip", "--python", python, *install, archives[0], cwd=folder.parent)
    inner = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (inner / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def tracked(*folders: str) -> set[str]:
    """Files of the repository below these folders that are no leftovers of running it."""
    return {
        path.relative_to(REPOSITORY).as_posix()
        for folder in folders
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_program_its_yaml_and_its_data(archives: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(archives[0]).namelist())
    assert tracked("trainer") <= names
    assert {f"trainer/{name}" for name in tracked("conf")} <= names
    assert "trainer/data/bundled/digits.npz" in names
    assert {name.split("/")[0].rpartition(".")[2] for name in names} == {"trainer", "dist-info"}


def test_the_source_archive_is_complete(archives: tuple[Path, Path]) -> None:
    with tarfile.open(archives[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked("trainer", "conf", "tests") <= names
    assert {"README.md", "LICENSE", "pyproject.toml"} <= names
    assert not [name for name in names if name.startswith(("outputs", ".ci", "data"))]


def test_the_installed_commands_work_in_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    where = call(environment / "bin" / "python", "-c", "import trainer; print(trainer.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(environment)
    assert "lenet5" in call(environment / "bin" / "trainer", "list", cwd=tmp_path)
    call(environment / "bin" / "train", "epochs=1", "threads=1", cwd=tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["outputs"]
    run = (tmp_path / "outputs" / "latest").resolve()
    assert {entry.name for entry in run.iterdir()} >= RUN_FILES
    assert {"last.pt", "best.pt"} <= {entry.name for entry in (run / "checkpoints").iterdir()}
