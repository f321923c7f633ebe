"""Image files that are decoded whenever they are read: changes while they are in use, and threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.datasets import write_images
from helpers.processes import HANG_SECONDS
from trainer.data.dataset import Split
from trainer.data.fetch import InputForm, StreamedFetch
from trainer.data.images import samples, source
from trainer.data.images.decode import decode
from trainer.data.images.folder import image_folder
from trainer.data.images.samples import ImageFiles
from trainer.data.prepare import Prepare
from trainer.errors import UserError

SIDE, COUNT = 8, 10


@pytest.fixture
def photos() -> Path:
    return write_images(Path("photos"), {"ant": COUNT // 2, "bee": COUNT // 2}, size=SIDE, suffixes=("bmp",))


def opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> ImageFiles:
    monkeypatch.setattr(source, "MEMORY_SHARE", 0.0)
    files = image_folder(str(root), cache=False).splits["train"]
    assert isinstance(files, ImageFiles)
    return files


def whole(files: ImageFiles) -> torch.Tensor:
    return files.take(torch.arange(COUNT))


def overwrite(path: Path) -> None:
    """Change the last byte of a file, but neither its size nor its modification time."""
    before = path.stat()
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        [last] = file.read()
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 0x40]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "written to": overwrite,
    "replaced": lambda path: path.with_name("004.bmp").replace(path),
    "cut off": lambda path: os.truncate(path, 60),
    "removed": os.unlink,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_that_changes_while_it_is_in_use_is_refused(
    change, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = opened(photos, monkeypatch)
    whole(files)
    change(photos / "bee" / "002.bmp")
    with pytest.raises(UserError, match=r"photos/bee/002\.bmp: .*Restore it and resume the run, or start a new one\.$"):
        whole(files)


def test_other_times_of_an_unchanged_image_do_not_matter(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = opened(photos, monkeypatch)
    before = whole(files)
    (photos / "ant" / "000.bmp").touch()
    (photos / "ant" / "001.bmp").chmod(0o600)
    copy = Path("copy")
    copy.write_bytes((photos / "bee" / "000.bmp").read_bytes())
    copy.replace(photos / "bee" / "000.bmp")
    assert torch.equal(whole(files), before)


def test_a_lack_of_memory_is_not_blamed_on_the_image(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = opened(photos, monkeypatch)

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", full)
    with pytest.raises(MemoryError):
        whole(files)


def decoding_threads(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.Tensor, int]:
    """Return all images, and the number of threads that decoded them at once."""
    together, arrived = threading.Barrier(2, timeout=HANG_SECONDS), set()

    def watched(path: str, spec: object) -> np.ndarray:
        arrived.add(threading.get_ident())
        if threading.current_thread() is not threading.main_thread():
            together.wait()  # a pool gives all work to one thread if that is quick enough
        return decode(path, spec)

    monkeypatch.setattr(samples, "decode", watched)
    return whole(files), len(arrived - {threading.get_ident()}) or 1


def test_large_files_are_decoded_by_as_many_threads_as_torch_uses(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "LARGE_FILE", 100)
    files = opened(photos, monkeypatch)
    images, threads = decoding_threads(files, monkeypatch)
    assert threads == 1
    torch.set_num_threads(2)
    assert decoding_threads(files, monkeypatch)[1] == 2
    assert torch.equal(decoding_threads(files, monkeypatch)[0], images)
    monkeypatch.setattr(samples, "LARGE_FILE", 10_000)
    assert decoding_threads(opened(photos, monkeypatch), monkeypatch)[1] == 1


def test_a_worker_decodes_with_one_thread(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "LARGE_FILE", 100)
    files = opened(photos, monkeypatch)
    expected = whole(files)
    torch.set_num_threads(2)

    def alone(path: str, spec: object) -> np.ndarray:
        assert threading.current_thread() is threading.main_thread()
        return decode(path, spec)

    monkeypatch.setattr(samples, "decode", alone)
    prepare = Prepare((3, SIDE, SIDE), (0.0,) * 3, (1.0,) * 3)
    form = InputForm(prepare, torch.device("cpu"), torch.float32)
    fetch = StreamedFetch(Split(files, torch.arange(COUNT)), form, workers=1)
    [(inputs, _)] = fetch([slice(0, COUNT)])
    assert torch.equal(inputs, expected.float())
    fetch.close()
