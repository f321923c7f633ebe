"""Data that cannot be read while a run goes on: the run is saved, and ends with a sentence."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from helpers.datasets import write_images
from helpers.runs import CompletedCommand
from trainer.data.dataset import Split
from trainer.data.fetch import InputForm, StreamedFetch
from trainer.data.images import source
from trainer.data.map_dataset import MapDataset
from trainer.data.prepare import Prepare
from trainer.data.samples import Samples
from trainer.errors import DataFailed, Problem, UserError
from trainer.run.journal import Journal
from trainer.training import checkpoint

FAST = ("model=ann", "batch_size=8", "threads=1", "epochs=3", "checkpoint.every=100ep", "patience=null")

ITEMS = """
import os, signal
from pathlib import Path
import torch
from torch.utils.data import get_worker_info

class Items(torch.utils.data.Dataset):
    def __len__(self):
        return 80

    def __getitem__(self, index):
        if Path("now").exists() and index == 7 and get_worker_info():
            os.kill(os.getpid(), int(Path("now").read_text()))
        return torch.full((4,), index / 80), index % 2
"""


def after_first_row(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Call `do` between the first and the second epoch."""
    row = Journal.row

    def reported(journal: Journal, *what: object) -> None:
        row(journal, *what)
        if journal.folder not in reported_folders:
            reported_folders.append(journal.folder)
            do()

    reported_folders: list[object] = []
    monkeypatch.setattr(Journal, "row", reported)


def own_words() -> list[str]:
    Path("own.py").write_text(ITEMS)
    return [*FAST, "data=custom", "data._target_=own.Items", "data.resident=false", "trust=true"]


def saved_step(run: Path) -> int:
    return checkpoint.load(run / "checkpoints" / "last.pt")["run"]["step"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(run / "checkpoints" / "best.pt")["model"]


def check_saved(done: CompletedCommand, steps: range) -> None:
    assert "Traceback" not in done.err + done.out
    assert done.results["status"] == "failed"
    assert saved_step(done.folder) in steps


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_ends_when_an_image_changes_while_it_is_streamed(
    workers: int, train, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_images(Path("photos"), {"ant": 40, "bee": 40}, suffixes=("bmp",))
    monkeypatch.setattr(source, "MEMORY_SHARE", 0.0)
    words = [*FAST, "data=image_folder", f"data.root={photos}", "data.cache=false", "data.resident=false"]
    words.append(f"data.workers={workers}")
    whole = train(*words)
    before = {path: path.read_bytes() for path in photos.glob("*/*.bmp")}

    def change() -> None:
        for path, content in before.items():
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 0x40]))

    with monkeypatch.context() as patch:
        after_first_row(patch, change)
        ended = train(*words)
    assert ended.code == 2
    assert "the image has changed since the run began. Restore it and resume the run, or start a new one." in ended.err
    check_saved(ended, range(7, 8))
    assert train(f"resume={ended.folder}").code == 2
    for path, content in before.items():
        path.write_bytes(content)
    resumed = train(f"resume={ended.folder}")
    assert resumed.code == 0, resumed.err
    assert resumed.results["valid"] == whole.results["valid"]
    assert all(map(torch.equal, weights(resumed.folder).values(), weights(whole.folder).values()))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_died_between_two_batches_ends_the_run(
    number: signal.Signals, train, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*own_words(), "data.workers=2"]

    def kill() -> None:
        for child in multiprocessing.active_children():
            os.kill(child.pid, number)
            child.join()

    with monkeypatch.context() as patch:
        after_first_row(patch, kill)
        ended = train(*words)
    assert ended.code == 1
    assert f"a data worker ended early: killed by {number.name}" in ended.err
    assert "Try again with data.workers=0, or with a smaller batch_size." in ended.err
    check_saved(ended, range(7, 8))
    resumed = train(f"resume={ended.folder}", "data.workers=0", "trust=true")
    assert resumed.code == 0, resumed.err
    whole = train(*words[:-1], "data.workers=0")
    assert all(map(torch.equal, weights(resumed.folder).values(), weights(whole.folder).values()))


@pytest.mark.slow  # torch looks for dead workers every five seconds
def test_a_worker_that_dies_while_it_is_waited_for_ends_the_run(train, monkeypatch: pytest.MonkeyPatch) -> None:
    after_first_row(monkeypatch, lambda: Path("now").write_text(str(int(signal.SIGKILL))))
    ended = train(*own_words(), "data.workers=2")
    assert ended.code == 1
    assert "a data worker ended early: killed by SIGKILL (out of memory?)" in ended.err
    check_saved(ended, range(7, 14))


class Failing(Samples):
    """Samples that raise when they are read."""

    targets = torch.zeros(8, dtype=torch.int64)

    def __init__(self, error: Exception) -> None:
        self.error = error

    def take(self, indices: torch.Tensor) -> torch.Tensor:
        raise self.error


FAILURES = [
    (KeyError("x"), DataFailed, "a data worker failed: KeyError: 'x' in test_data_failures.py, line .* shows the tra"),
    (
        MemoryError(),
        DataFailed,
        "out of memory. A smaller batch_size, data.resident=false and data.workers=0 take less",
    ),
    (UserError(Problem("data.root", "gone")), UserError, "data.root: gone"),
]


@pytest.mark.parametrize(("error", "kind", "sentence"), FAILURES)
def test_an_exception_in_a_worker_becomes_a_sentence(error: Exception, kind: type, sentence: str) -> None:
    split, prepare = Split(Failing(error), torch.arange(8)), Prepare((3, 2, 2), (0.0,) * 3, (1.0,) * 3)
    form = InputForm(prepare, torch.device("cpu"), torch.float32)
    with pytest.raises(kind, match=sentence):
        list(StreamedFetch(split, form, workers=1)([slice(0, 8)]))
    with pytest.raises(type(error)):
        list(StreamedFetch(split, form, workers=0)([slice(0, 8)]))


def test_an_item_for_which_memory_runs_out_is_not_called_unreadable() -> None:
    class Large(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            raise MemoryError

    with pytest.raises(MemoryError):
        MapDataset(Large(), "own.Large")


@contextmanager
def limited_memory(num_bytes: int) -> Iterator[None]:
    """Let this process and its children take no more than this besides what they have."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the size of this process in /proc")
@pytest.mark.parametrize(
    "words",
    [
        ["data.resident=true"],
        ["data.resident=false", "data.workers=0"],
        ["data.resident=false", "data.workers=1"],
    ],
    ids=" ".join,
)
def test_too_little_memory_for_the_data_is_a_sentence(words: list[str], train) -> None:
    photos = write_images(Path("photos"), {"ant": 70, "bee": 70})
    words = [*FAST, "data=image_folder", f"data.root={photos}", "data.size=512", "batch_size=1000", *words]
    train(*words, "data.size=8", "epochs=1")  # reads what the program imports late
    with limited_memory(300 * 2**20):  # 110 MB as bytes, 440 MB as numbers
        ended = train(*words)
    assert ended.code == 1, ended.err
    assert "error: out of memory. A smaller batch_size, data.resident=false and data.workers=0 take less." in ended.err
    assert "Traceback" not in ended.err
