"""A damaged file is refused, whoever wrote it, and none makes torch return memory that is not set."""

from __future__ import annotations

import hashlib
import pickle
import pickletools
import random
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.trees import same_tree
from trainer.training.archive import SEAL, SEAL_SIZE, CheckpointError, read, read_sealed, sealed

CONTENT = {"weights": torch.linspace(-1, 1, 30), "count": torch.arange(7), "about": {"classes": ["a", "b"]}}


@pytest.fixture
def own() -> bytes:
    return bytes(sealed(CONTENT))


@pytest.fixture
def foreign() -> bytes:
    torch.save(CONTENT, "weights.pt")
    return Path("weights.pt").read_bytes()


def refused(data: bytes, reader: Callable[[Path], Any] = read_sealed) -> bool:
    """Return whether a file is refused. If it is not, its tensors must be those of CONTENT."""
    Path("spoilt.pt").write_bytes(data)
    unset = [torch.full((size,), 7.0) for size in (30, 14, 8)]  # what freshly allocated memory will hold
    del unset
    try:
        content = reader(Path("spoilt.pt"))
    except CheckpointError:
        return True
    assert same_tree(content, CONTENT)
    return False


def flips(data: bytes, bits: Iterable[int]) -> Iterator[bytes]:
    """Yield the file with each of these bits flipped in turn."""
    for bit in bits:
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        yield bytes(spoilt)


def directory(data: bytes) -> int:
    """Return where the directory of a zip file begins."""
    return data.index(b"PK\x01\x02")


def resealed(data: bytes) -> bytes:
    """Return a changed file of this program with the digest that fits it."""
    body = data[:-SEAL_SIZE]
    return body + SEAL + hashlib.sha256(body).hexdigest().encode()


def test_what_was_saved_is_loaded_by_any_torch(own: bytes) -> None:
    Path("good.pt").write_bytes(own)
    for content in (read_sealed(Path("good.pt")), read(Path("good.pt")), torch.load("good.pt", weights_only=True)):
        assert same_tree(content, CONTENT)
    with zipfile.ZipFile("good.pt") as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize("step", [97, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_each_flipped_bit_is_refused(own: bytes, step: int) -> None:
    assert all(map(refused, flips(own, range(8 * len(own))[::step])))


def test_truncated_extended_zeroed_and_swapped_files_are_refused() -> None:
    data = bytes(sealed(CONTENT | {"large": torch.randn(20_000)}))
    chance = random.Random(0)
    spoilt = [data[:length] for length in (0, 1, 3, 21, *chance.sample(range(len(data)), 100), len(data) - 1)]
    spoilt += [data + b"\0", data + data, data + data[-SEAL_SIZE:], data[1:]]
    pages = [data[start : start + 4096] for start in range(0, len(data), 4096)]
    for number in range(len(pages)):
        spoilt.append(b"".join((*pages[:number], bytes(len(pages[number])), *pages[number + 1 :])))
        other = chance.choice([n for n in range(len(pages)) if n != number])
        swapped = pages.copy()
        swapped[number], swapped[other] = pages[other], pages[number]
        spoilt.append(b"".join(swapped))
    assert all(map(refused, spoilt))


def test_a_file_without_a_digest_is_not_of_this_program(foreign: bytes) -> None:
    assert refused(foreign)
    with pytest.raises(CheckpointError, match="does not end with a checksum"):
        read_sealed(Path("weights.pt"))
    assert not refused(foreign, read)


@pytest.mark.parametrize("step", [97, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_no_flipped_bit_of_a_file_of_others_gives_other_values(foreign: bytes, step: int) -> None:
    """Bits that mean nothing, such as those of a time, may stay unnoticed."""
    beginning = foreign.index(b"PK\x07\x08") + 100  # the pickle, and the header of the next entry
    bits = [bit for bit in range(8 * len(foreign)) if not 8 * beginning <= bit < 8 * directory(foreign)]
    outcomes = [refused(spoilt, read) for spoilt in flips(foreign, bits[::step])]
    assert sum(outcomes) > 0.7 * len(outcomes)


ATTRIBUTES, FLAGS, SIZE, UNPACKED, OFFSET = 38, 8, 20, 24, 42  # places in an entry of the directory


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (ATTRIBUTES, 0x10),  # torch takes the entry for a folder, and returns memory that is not set
        (SIZE, 0),  # likewise
        (UNPACKED, 2**20),
        (FLAGS, 0x4808),
        (OFFSET, 0),
    ],
)
def test_an_entry_that_torch_would_not_write_is_refused(place: int, value: int, own: bytes, foreign: bytes) -> None:
    for data, reader in ((own, read_sealed), (foreign, read)):
        spoilt = bytearray(data)
        name = spoilt.rindex(b"/data/0")
        record = spoilt.rindex(b"PK\x01\x02", 0, name)
        struct.pack_into("<L" if place > 8 else "<H", spoilt, record + place, value)
        Path("planted.pt").write_bytes(resealed(bytes(spoilt)) if reader is read_sealed else spoilt)
        with pytest.raises(CheckpointError, match=r"directory is not|larger than|truncated"):
            reader(Path("planted.pt"))


def rewritten(change: Callable[[str], str] = lambda name: name, extra: str | None = None) -> None:
    """Write planted.pt: weights.pt with other names of entries, or with one more."""
    with zipfile.ZipFile("weights.pt") as good, zipfile.ZipFile("planted.pt", "w") as bad:
        for name in (*good.namelist(), *([extra] if extra else [])):
            entry = zipfile.ZipInfo(change(name))
            entry.create_system = 0
            bad.writestr(entry, good.read(name if name in good.namelist() else "weights/version"))
    data = bytearray(Path("planted.pt").read_bytes())
    for record in range(len(data)):
        if data[record : record + 4] == b"PK\x01\x02":
            struct.pack_into("<L", data, record + ATTRIBUTES, 0)  # zipfile writes permissions there
    Path("planted.pt").write_bytes(data)


@pytest.mark.usefixtures("foreign")
def test_odd_names_are_refused() -> None:
    rewritten()
    assert same_tree(read(Path("planted.pt")), CONTENT)  # so that what follows is refused for the names
    for arguments in (
        {"extra": "weights/DATA/0"},
        {"extra": "weights/data/9/"},
        {"extra": "other/data/9"},
        {"change": lambda name: name.replace("version", "ver\x1bsion")},
    ):
        rewritten(**arguments)
        with pytest.raises(CheckpointError, match="directory is not"):
            read(Path("planted.pt"))


def test_a_second_directory_is_refused(foreign: bytes) -> None:
    """Python reads the directory in front of the locator; torch reads the one that the locator names."""
    start, end = directory(foreign), foreign.index(b"PK\x06\x06")
    hidden, sound = bytearray(foreign[start : end + 56]), bytearray(foreign[start:])
    struct.pack_into("<L", hidden, ATTRIBUTES, 0x10)
    struct.pack_into("<Q", sound, end - start + 48, start + len(hidden))  # where Python finds the directory
    Path("planted.pt").write_bytes(foreign[:start] + hidden + sound)
    with zipfile.ZipFile("planted.pt") as archive:
        assert archive.testzip() is None
    with pytest.raises(CheckpointError, match="directory is not"):
        read(Path("planted.pt"))


@pytest.mark.parametrize("call", [b"torch\nTensor", b"torch\nFloatTensor", b"torch.storage\nUntypedStorage"])
def test_a_pickle_that_asks_for_memory_is_refused(call: bytes, foreign: bytes) -> None:
    """`weights_only=True` calls these classes with the number that the file gives."""
    planted = b"\x80\x02}X\x01\x00\x00\x00wc" + call + b"\nMd\x00\x85Rs."
    with zipfile.ZipFile("weights.pt") as good, zipfile.ZipFile("calls.pt", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, planted if name.endswith("data.pkl") else good.read(name))
    loaded = torch.load("calls.pt", weights_only=True)["w"]
    assert len(loaded if isinstance(loaded, torch.Tensor) else loaded.tolist()) == 100  # so the bait was real
    Path("weights.pt").write_bytes(Path("calls.pt").read_bytes())
    rewritten()
    with pytest.raises(CheckpointError, match="tensors without values"):
        read(Path("planted.pt"))


def test_a_plain_pickle_without_all_tensors_is_refused() -> None:
    torch.save(CONTENT, "old.pt", _use_new_zipfile_serialization=False)
    with open("old.pt", "rb") as file:
        for _ in range(4):
            list(pickletools.genops(file))
        Path("planted.pt").write_bytes(Path("old.pt").read_bytes()[: file.tell()] + pickle.dumps([], 2))
    assert torch.load("planted.pt", weights_only=True).keys() == CONTENT.keys()  # so the bait was real
    with pytest.raises(CheckpointError, match="it names tensors that it does not hold"):
        read(Path("planted.pt"))


def test_plain_pickles_are_read_but_not_as_files_of_this_program() -> None:
    torch.save(CONTENT, "old.pt", _use_new_zipfile_serialization=False)
    assert same_tree(read(Path("old.pt")), CONTENT)
    Path("plain.pt").write_bytes(pickle.dumps({"format": 1}))
    for name in ("old.pt", "plain.pt"):
        with pytest.raises(CheckpointError, match="it is not a checkpoint"):
            read_sealed(Path(name))
