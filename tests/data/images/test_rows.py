"""Damage to the rows of a cache file: noticed when they are first read, and mended from the image files."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from helpers.datasets import write_images
from trainer.data.dataset import Split
from trainer.data.fetch import InputForm, StreamedFetch
from trainer.data.images import rows
from trainer.data.images.cache import default_folder
from trainer.data.images.folder import image_folder
from trainer.data.images.samples import CachedImages, DecodedImages
from trainer.data.prepare import Prepare
from trainer.data.samples import Samples
from trainer.errors import UserError

SIDE, COUNT = 32, 8
ROW_BYTES = SIDE * SIDE * 3


@pytest.fixture
def photos() -> Path:
    return write_images(Path("photos"), {"ant": COUNT // 2, "bee": COUNT // 2}, size=SIDE)


def cached(root: Path) -> CachedImages:
    samples = image_folder(str(root), cache="true").splits["train"]
    assert isinstance(samples, CachedImages)
    return samples


def in_memory(root: Path) -> Samples:
    samples = image_folder(str(root), cache=False).splits["train"]
    assert isinstance(samples, DecodedImages)
    return samples


def whole(samples: Samples) -> torch.Tensor:
    return samples.take(torch.arange(COUNT))


def write_at(path: Path, at: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def flip(row: int) -> Callable[[Path], None]:
    """Flip a bit in the middle of a row."""
    at = row * ROW_BYTES + ROW_BYTES // 2
    return lambda path: write_at(path, at, bytes([path.read_bytes()[at] ^ 0x10]))


DAMAGES = {
    "a bit of the first row": flip(0),
    "a bit of the last row": flip(COUNT - 1),
    "a page of zeros": lambda path: write_at(path, 4096, bytes(4096)),
    "other rows in between": lambda path: write_at(path, ROW_BYTES, path.read_bytes()[: 2 * ROW_BYTES]),
}
CUTS = {
    "empty": lambda path: os.truncate(path, 0),
    "a page": lambda path: os.truncate(path, 4096),
    "in the last row": lambda path: os.truncate(path, COUNT * ROW_BYTES - 5),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_rows_are_decoded_again_and_the_file_is_made_anew(damage, photos: Path) -> None:
    path = cached(photos).rows.path
    damage(path)
    samples = cached(photos)
    for _ in range(2):
        assert torch.equal(whole(samples), whole(in_memory(photos)))
    assert samples.fingerprint() == in_memory(photos).fingerprint()
    assert not path.exists()
    again = cached(photos)
    assert torch.equal(whole(again), whole(in_memory(photos)))
    assert path.exists()


@pytest.mark.parametrize("read_before", [False, True])
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_a_file_that_is_cut_off_while_it_is_read_costs_nothing(cut, read_before: bool, photos: Path) -> None:
    samples = cached(photos)
    if read_before:
        whole(samples)
    cut(samples.rows.path)
    assert torch.equal(whole(samples), whole(in_memory(photos)))
    assert not samples.rows.path.exists()


def test_a_damaged_row_of_an_image_that_has_changed_is_refused(photos: Path) -> None:
    samples = cached(photos)
    flip(2)(samples.rows.path)
    (photos / "ant" / "003.png").replace(photos / "ant" / "002.png")
    with pytest.raises(UserError, match=r"photos/ant/002\.png: the image has changed since the run began\. Restore it"):
        whole(samples)
    (photos / "ant" / "002.png").unlink()
    with pytest.raises(UserError, match=r"002\.png: .*No such file.*; it was readable when the run began\. Restore it"):
        whole(samples)


def streamed(samples: Samples, workers: int) -> torch.Tensor:
    prepare = Prepare((3, SIDE, SIDE), (0.0,) * 3, (1.0,) * 3)
    form = InputForm(prepare, torch.device("cpu"), torch.float32)
    fetch = StreamedFetch(Split(samples, torch.arange(COUNT)), form, workers=workers)
    batches = [inputs for inputs, _ in fetch(list(torch.arange(COUNT).split(3)))]
    fetch.close()
    return torch.cat(batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_notice_damage_too(workers: int, photos: Path) -> None:
    samples = cached(photos)
    flip(5)(samples.rows.path)
    assert torch.equal(streamed(samples, workers), whole(in_memory(photos)).float())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_row_is_compared_once_for_this_process_and_its_workers(
    workers: int, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    digest = rows.blake2b
    monkeypatch.setattr(rows, "blake2b", lambda *data, **size: compared.append(1) or digest(*data, **size))
    samples = cached(photos)
    for _ in range(3):
        samples.take(torch.tensor([1, 2]))
    assert len(compared) == 2
    streamed(samples, workers)
    compared.clear()
    whole(samples)
    assert not compared


def test_a_process_that_is_not_forked_compares_rows_too(photos: Path) -> None:
    samples = cached(photos)
    expected = whole(samples)
    flip(1)(samples.rows.path)
    sent = pickle.dumps(samples)
    for _ in range(2):  # the second time the file has been removed
        assert torch.equal(whole(pickle.loads(sent)), expected)
        assert not samples.rows.path.exists()


REPLACEMENTS = {
    "a pipe": (os.mkfifo, "not a regular file with one name"),
    "a folder": (os.mkdir, "not a regular file with one name|Is a directory"),
    "a link": (lambda path: os.symlink("elsewhere", path), "Too many levels of symbolic links"),
}


@pytest.mark.usefixtures("no_hang")
@pytest.mark.parametrize("suffix", [".rows", ".part"])
@pytest.mark.parametrize(("replace", "reason"), REPLACEMENTS.values(), ids=REPLACEMENTS)
def test_what_takes_the_place_of_a_cache_file_is_not_opened(replace, reason: str, suffix: str, photos: Path) -> None:
    path = cached(photos).rows.path
    path.rename("elsewhere")
    before = Path("elsewhere").read_bytes()
    replace(path.with_suffix(suffix))
    with pytest.raises(UserError, match=rf"cannot be cached: .*({reason})"):
        cached(photos)
    source = image_folder(str(photos))
    assert "cannot be cached" in source.notes[0]
    assert torch.equal(whole(source.splits["train"]), whole(in_memory(photos)))
    assert Path("elsewhere").read_bytes() == before
    assert list(default_folder().iterdir()) == [path.with_suffix(suffix)]


def test_a_file_that_is_also_known_by_another_name_is_not_written_to(photos: Path) -> None:
    path = cached(photos).rows.path
    path.unlink()
    Path("elsewhere").write_text("mine")
    os.link("elsewhere", path.with_suffix(".part"))
    with pytest.raises(UserError, match="not a regular file with one name"):
        cached(photos)
    assert Path("elsewhere").read_text() == "mine"
