"""A damaged checkpoint is refused; a failed write never destroys the existing one."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from helpers.components import assemble
from helpers.trees import same_tree
from trainer.config.values import Duration
from trainer.errors import RunFailed
from trainer.training import checkpoint
from trainer.training.archive import CheckpointError, read, sealed
from trainer.training.checkpoint import load, save
from trainer.training.saver import Saver
from trainer.training.state import RunState

CONTENT = {"weights": torch.linspace(-1, 1, 300), "count": torch.arange(7), "about": {"classes": ["a", "b"]}}


@pytest.fixture
def path() -> Path:
    save(Path("good.pt"), CONTENT)
    return Path("good.pt")


def test_what_was_saved_is_loaded(path: Path) -> None:
    assert same_tree(load(path), {"format": 1, **CONTENT})
    assert same_tree(torch.load(path, weights_only=True), load(path))  # anybody's torch can read it


def test_a_compressed_file_is_refused(path: Path) -> None:
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile("bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name))
    with pytest.raises(CheckpointError, match="compressed"):
        read(Path("bomb.pt"))


class Evil:
    """Writes a file when it is unpickled by the usual means."""

    def __reduce__(self):
        return Path.touch, (Path("canary"),)


def test_code_in_a_file_is_never_run() -> None:
    Path("plain.pt").write_bytes(pickle.dumps({"format": 1, "x": Evil()}))
    Path("zipped.pt").write_bytes(sealed({"format": 1, "x": Evil()}))
    for name in ("plain.pt", "zipped.pt"):
        for reader in (load, read):
            with pytest.raises(CheckpointError):
                reader(Path(name))
        assert not Path("canary").exists()
    torch.load("zipped.pt", weights_only=False)
    assert Path("canary").exists()  # so the bait was real


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"format": 2}, "format 2 is newer than 1"),
        ({"format": "one"}, "format"),
        ({"weights": torch.zeros(1)}, "not a checkpoint of this program"),
        ([1, 2], "not a checkpoint of this program"),
    ],
)
def test_a_file_of_another_kind_is_refused(content, sentence: str) -> None:
    Path("other.pt").write_bytes(sealed(content))
    with pytest.raises(CheckpointError, match=sentence):
        load(Path("other.pt"))


@contextlib.contextmanager
def disk_with_room_for(size: int) -> Iterator[None]:
    """The kernel refuses to write beyond `size` bytes of any file, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_file_that_was_there(path: Path) -> None:
    before = path.read_bytes()
    with disk_with_room_for(1000), pytest.raises(RunFailed, match=r"good\.pt: could not be written"):
        save(path, {"weights": torch.zeros(10_000)}, keep=Path("previous.pt"))
    assert path.read_bytes() == before
    assert sorted(os.listdir()) == ["good.pt"]


def test_a_run_on_a_full_disk_says_so(train) -> None:
    with disk_with_room_for(20_000):  # less than a checkpoint, more than any other file
        done = train("model=ann", "epochs=2", "checkpoint.every=1ep")
    assert done.code == 1
    assert "could not be written" in done.err
    assert "Traceback" not in done.err
    assert done.results["status"] == "failed"
    assert os.listdir(done.folder / "checkpoints") == ["best.pt"]  # small enough; and no half of another


def test_the_newest_good_file_is_found(path: Path) -> None:
    folder = Path("run")
    folder.mkdir()
    assert checkpoint.load_newest(folder) == (None, [])
    run = dict.fromkeys(RunState.KEYS)
    for count in (1, 2):
        content = {"fingerprint": "that of the data", "run": run, "count": count}
        save(folder / "last.pt", content, folder / "previous.pt")
    assert checkpoint.load_newest(folder)[0].metadata["count"] == 2
    (folder / "last.pt").write_bytes(b"")
    found, notes = checkpoint.load_newest(folder)
    assert found.metadata["count"] == 1
    assert "last.pt is damaged" in notes[0]
    (folder / "last.pt").unlink()  # killed between the two renames
    assert checkpoint.load_newest(folder)[0].metadata["count"] == 1
    for other in ({"count": 3}, {"fingerprint": "x", "run": {"step": 3}}, {"fingerprint": "x", "run": [1]}):
        save(folder / "last.pt", other)
        found, notes = checkpoint.load_newest(folder)
        assert found.metadata["count"] == 1
        assert "last.pt is damaged: its content is not what this program writes" in notes[0]


def test_weights_that_are_not_finite_are_never_saved(job) -> None:
    state = assemble(job("model=ann").config).state
    saver = Saver(Path("checkpoints"), Duration(1, "ep"), {})
    state.step = 1
    with torch.no_grad():
        state.model.output.bias[0] = float("nan")
    assert not saver.save(state)
    assert saver.save_all([state]) == [state]
    assert list(Path("checkpoints").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("seconds_per_epoch", [0.05, 1.0, 60.0])
def test_auto_spends_two_hundredths_of_the_time(seconds_per_epoch: float, job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that we turn; saving takes a quarter of a second on it for each file."""
    state = assemble(job("model=ann").config).state
    now = 0.0

    def slow_disk(handle: int) -> None:
        nonlocal now
        now += 0.125  # the file, and its folder

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(os, "fsync", slow_disk)
    saver = Saver(Path("checkpoints"), None, {})
    saves, epochs = 0, 500
    for _ in range(epochs):
        now += seconds_per_epoch
        state.epoch, state.step = state.epoch + 1, state.step + 10
        if saver.due(state):
            saver.save(state)
            saves += 1
    spent = saves * 0.25
    assert saves == epochs or 0.5 * 0.02 * now < spent
    assert spent <= 0.02 * now + 0.25  # the first one is a guess


@pytest.mark.slow
@pytest.mark.parametrize(
    ("every", "expected"),
    [("7st", [7, 14, 21]), ("2ep", [10, 20]), ("1ep", [5, 10, 15, 20])],
)
def test_a_fixed_interval_is_kept(every: str, expected: list[int], job) -> None:
    state = assemble(job("model=ann").config).state
    saver = Saver(Path("checkpoints"), Duration.parse(every), {})
    found = []
    for state.step in range(1, 22):  # five steps an epoch
        state.epoch, state.batch = divmod(state.step, 5)
        if saver.due(state):
            saver.save(state)
            found.append(state.step)
        assert not (found and saver.due(state) and found[-1] == state.step)
    assert found == expected
    assert load(Path("checkpoints/last.pt"))["run"]["step"] == expected[-1]
    assert load(Path("checkpoints/previous.pt"))["run"]["step"] == expected[-2]
