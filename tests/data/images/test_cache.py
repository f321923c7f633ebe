"""The cache of decoded images: written once, by several processes, and used only while it is valid."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.datasets import write_images
from helpers.fork_server import ForkServer
from helpers.processes import HANG_SECONDS, wait_until
from helpers.runs import REPOSITORY
from trainer.data.dataset import load
from trainer.data.fetch import InputForm, ResidentFetch, StreamedFetch
from trainer.data.images import cache
from trainer.data.images import source as image_source
from trainer.data.images.decode import DecodeSpec, decode
from trainer.data.images.folder import image_folder
from trainer.data.images.pool import ACTIVITY, decode_all
from trainer.data.images.samples import DecodedImages
from trainer.errors import RunFailed, UserError


class Watched:
    """Counts what is decoded."""

    def __init__(self) -> None:
        self.decoded = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        self.decoded = max(self.decoded, done)


def write_photos(root: Path, count: int, side: int = 16) -> list[str]:
    """Write JPEG files of two classes; return the paths of all in this folder, sorted."""
    write_images(root, {"a": count - count // 2, "b": count // 2}, size=side, suffixes=("jpg",))
    return sorted(map(str, root.rglob("*.jpg")))


def write_many(root: Path, count: int, side: int) -> None:
    """Write one image under many names."""
    (first,) = write_photos(root, 1, side)
    for i in range(1, count):
        (root / "ab"[i % 2] / f"{i:04}.jpg").hardlink_to(first)


@pytest.fixture
def photos() -> Path:
    write_photos(Path("photos"), 12)
    return Path("photos")


def stores() -> list[Path]:
    folder = cache.default_folder()
    return sorted(folder.iterdir()) if folder.exists() else []


def all_of(root: Path, **words) -> tuple[torch.Tensor, int]:
    """All images of a folder, and how many were decoded for it."""
    watch = Watched()
    part = image_folder(str(root), progress=watch, **words).splits["train"]
    return part.take(torch.arange(len(part))), watch.decoded


def expected(root: Path, geometry: DecodeSpec = DecodeSpec()) -> torch.Tensor:  # noqa: B008
    pixels = [decode(path, geometry) for path in sorted(root.rglob("*.jpg"))]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


def test_images_are_decoded_once(photos: Path) -> None:
    first, decoded = all_of(photos)
    assert decoded == 12
    again, decoded = all_of(photos)
    assert decoded == 0
    assert torch.equal(first, again)
    assert torch.equal(first, expected(photos))
    assert [path.suffix for path in stores()] == [".rows"]


def test_every_size_is_a_store_of_its_own(photos: Path) -> None:
    words = [{}, {"size": 8}, {"size": 8, "resize": 12}, {"size": 8, "interpolation": "bicubic"}]
    for word in words:
        assert all_of(photos, **word)[1] == 12
    assert len(stores()) == 4
    for word in words:
        found, decoded = all_of(photos, **word)
        assert decoded == 0
        geometry = DecodeSpec(**{"interpolation": "bilinear", **word})
        assert torch.equal(found, expected(photos, geometry))


def test_some_of_the_classes_are_a_store_of_their_own(photos: Path) -> None:
    write_photos(Path("more"), 12)
    Path("more/a").rename(photos / "c")
    assert all_of(photos)[1] == 18
    assert all_of(photos, classes=["c", "a"])[1] == 12
    assert all_of(photos)[1] == 0


def change_content(photos: Path) -> None:
    """Change the content of a file, but not its size or modification time."""
    path = photos / "a" / "000.jpg"
    stat, data = path.stat(), path.read_bytes()
    path.write_bytes(data[:-10] + bytes(8) + data[-2:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


CHANGES = {
    "content": change_content,
    "added": lambda photos: (photos / "a" / "new.jpg").write_bytes((photos / "a" / "000.jpg").read_bytes()),
    "removed": lambda photos: (photos / "a" / "000.jpg").unlink(),
    "renamed": lambda photos: (photos / "a" / "000.jpg").rename(photos / "a" / "zzzz.jpg"),
    "moved": lambda photos: (photos / "a" / "000.jpg").rename(photos / "b" / "moved.jpg"),
    "touched": lambda photos: (photos / "a" / "000.jpg").touch(),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_changed_folder_is_noticed_and_its_old_store_goes(how: str, photos: Path) -> None:
    all_of(photos)
    all_of(photos, size=8)
    before = stores()
    CHANGES[how](photos)
    found, decoded = all_of(photos)
    assert decoded == len(found)
    assert torch.equal(found, expected(photos))
    assert len(stores()) == 2
    assert len(set(before) & set(stores())) == 1  # that of the other size may still be wanted


def described(path: Path, change) -> bytes:
    """A store whose description says something else, under a digest that fits."""
    data = path.read_bytes()
    digest, size = cache.TRAILER.unpack(data[-cache.TRAILER.size :])
    start = len(data) - cache.TRAILER.size - size
    digests, about = data[start : start + 12 * 16], json.loads(data[start + 12 * 16 : -cache.TRAILER.size])
    assert digest == blake2b(data[start : start + size], digest_size=16).digest()
    text = digests + change(about)
    return data[:start] + text + cache.TRAILER.pack(blake2b(text, digest_size=16).digest(), len(text))


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if at != -1 else data[:-1] + bytes([data[-1] ^ 1])


DAMAGES = {
    "empty": lambda path: b"",
    "truncated": lambda path: path.read_bytes()[:-100],
    "longer": lambda path: path.read_bytes() + b"x",
    "rows missing": lambda path: path.read_bytes()[1000:],
    "trailer": lambda path: flipped(path.read_bytes(), -1),
    "trailer's digest": lambda path: flipped(path.read_bytes(), -20),
    "description": lambda path: flipped(path.read_bytes(), -40),
    "digest of a row": lambda path: flipped(path.read_bytes(), 12 * 16 * 16 * 3 + 5),
    "text": lambda path: b"this is no store\n" * 1000,
    "other key": lambda path: described(path, lambda about: json.dumps(about | {"key": "0" * 32}).encode()),
    "other shape": lambda path: described(path, lambda about: json.dumps(about | {"shape": [12, 32, 8, 3]}).encode()),
    "no such row": lambda path: described(path, lambda about: json.dumps(about | {"problems": [[99, "x"]]}).encode()),
    "a good file called bad": lambda path: described(
        path, lambda about: json.dumps(about | {"problems": [[3, "x"]]}).encode()
    ),
    "no JSON": lambda path: described(path, lambda about: b"[" * 100_000),
    "not a mapping": lambda path: described(path, lambda about: b"[]"),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_store_is_made_anew(how: str, photos: Path) -> None:
    all_of(photos)
    (path,) = stores()
    path.write_bytes(DAMAGES[how](path))
    found, decoded = all_of(photos)
    assert decoded == 12
    assert torch.equal(found, expected(photos))
    assert all_of(photos)[1] == 0
    assert stores() == [path]


def test_what_stands_in_the_place_of_a_store_is_not_followed(photos: Path) -> None:
    all_of(photos)
    (path,) = stores()
    path.rename("elsewhere")
    path.symlink_to(Path("elsewhere").resolve())
    with pytest.raises(UserError, match=r"cannot be cached: .*Too many levels of symbolic links"):
        all_of(photos, cache="true")


def test_a_bad_file_that_can_be_read_later_is_read(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(photos / "a" / "huge.bmp")
    with monkeypatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 255)
        with pytest.raises(UserError, match="no image of the class a"):
            all_of(photos, on_bad_image="skip")
    assert len(all_of(photos)[0]) == 13


# Where it is kept


def test_the_cache_folder_is_the_users_and_private(photos: Path) -> None:
    all_of(photos)
    assert stores()[0].is_relative_to(os.environ["XDG_CACHE_HOME"])
    assert cache.default_folder().stat().st_mode & 0o777 == 0o700


def test_a_cache_folder_that_is_not_absolute_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", "/somewhere")
    assert cache.default_folder() == Path("/somewhere/.cache/trainer/images")


def test_without_a_cache_nothing_is_written(photos: Path) -> None:
    found, decoded = all_of(photos, cache=False)
    assert decoded == 12
    assert torch.equal(found, expected(photos))
    assert stores() == []


def test_a_folder_for_the_cache_may_be_named(photos: Path) -> None:
    all_of(photos, cache="kept/here")
    assert len(list(Path("kept/here").iterdir())) == 1
    assert stores() == []
    assert all_of(photos, cache="kept/here")[1] == 0


def test_a_cache_that_cannot_be_used_is_said(photos: Path) -> None:
    Path("file").write_text("")
    with pytest.raises(UserError, match=r"data\.cache=file/x: .* cannot be cached: file/x: Not a directory"):
        all_of(photos, cache="file/x")


def test_a_disk_without_room_means_memory_or_decoding_again(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_source, "DISK_SHARE", 0.0)
    kept = image_folder(str(photos))
    assert isinstance(kept.splits["train"], DecodedImages)
    assert kept.notes == [
        f"decoded images (0.0 GB) cannot be cached: {cache.default_folder()}: No space left on device"
    ]
    monkeypatch.setattr(image_source, "MEMORY_SHARE", 0.0)
    again = image_folder(str(photos))
    assert again.notes[1] == "decoded images are not cached: files are decoded whenever they are read"
    for source in (kept, again):
        assert torch.equal(source.splits["train"].take(torch.arange(12)), expected(photos))
    assert stores() == []


PROGRAM = """
import sys
from trainer.data.images.decode import DecodeSpec
from trainer.data.images.cache_key import CacheKey
from trainer.data.images.class_folders import list_images
from trainer.data.images.cache import default_folder, obtain
done, listing, side = [], list_images(sys.argv[1]), int(sys.argv[2])
key = CacheKey.of(listing.root, [path for path, _ in listing.splits["train"]], DecodeSpec())
obtain(key, (side, side, 3), default_folder(), lambda *now: done.append(now))
print(max([count for what, count, _ in done if what == "decoding images"], default=0))
"""


def in_a_process(root: str, side: int, **options) -> subprocess.Popen[str]:
    """Makes or finds the store of a folder; prints how many images were decoded."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, root, str(side)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        **options,
    )


@pytest.mark.slow
def test_a_disk_that_fills_up_midway_is_said_and_nothing_stays() -> None:
    """A limit on the size of files stands in for it: a real refusal of the system's, in the decoding processes too."""
    import resource

    write_many(Path("photos"), 1000, side=300)
    limit = 100 * 300 * 300 * 3
    refused = in_a_process("photos", 300, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit,) * 2))
    assert "OSError: File too large" in refused.communicate(timeout=HANG_SECONDS)[1]
    assert stores() == []


# Several processes


@pytest.mark.slow
def test_processes_decode_what_one_does() -> None:
    paths = write_photos(Path("photos"), 70)
    Path(paths[33]).write_bytes(b"")
    watch = Watched()
    shape, geometry = (12, 12, 3), DecodeSpec(12)
    alone, together = (np.zeros((70, *shape), np.uint8) for _ in range(2))
    first = decode_all(paths, shape, geometry, alone, watch, processes=1)
    second = decode_all(paths, shape, geometry, together, watch, processes=3)
    assert first == second
    assert [row for row, _ in first.problems] == [33]
    assert np.array_equal(alone, together)
    Path("rows").write_bytes(b"")
    assert decode_all(paths, shape, geometry, Path("rows"), watch, processes=2) == first
    assert np.array_equal(np.fromfile("rows", np.uint8).reshape(alone.shape), alone)
    assert decode_all(paths, shape, geometry, None, watch, processes=2) == first


def children() -> list[int]:
    """Processes of this one that decode."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(child) for child in (task / "children").read_text().split()]
    return [child for child in found if "serve.py" in _command(child)]


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:  # it has ended
        return ""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes through /proc")
def test_a_decoding_process_that_dies_costs_no_image() -> None:
    write_many(Path("photos"), 600, side=300)
    paths = sorted(map(str, Path("photos").rglob("*.jpg")))
    killed: list[int] = []

    def worked(child: int) -> int:
        return int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11])

    def watch(what: str, done: int, total: int) -> None:
        if not killed and done > 60 and (alive := children()):
            killed.append(max(alive, key=worked))  # not one that is still starting
            os.kill(killed[-1], signal.SIGKILL)

    alone, together = (np.zeros((600, 100, 100, 3), np.uint8) for _ in range(2))
    found = decode_all(paths, (100, 100, 3), DecodeSpec(100), together, watch, processes=2)
    assert killed
    assert found == decode_all(paths, (100, 100, 3), DecodeSpec(100), alone, Watched(), processes=1)
    assert np.array_equal(alone, together)
    assert children() == []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes through /proc")
def test_a_file_that_ends_its_decoder_is_named() -> None:
    """Whoever decodes it is killed, as the system does where memory runs out, or a fault in a library would."""
    write_many(Path("photos"), 60, side=16)
    Image.new("RGB", (7000, 7000)).save("photos/a/huge.png")
    paths = sorted(map(str, Path("photos").rglob("*.*g")))
    done = threading.Event()

    def kill() -> None:
        while not done.is_set():
            for child in children():
                with contextlib.suppress(OSError):
                    if any(link.readlink().name == "huge.png" for link in Path(f"/proc/{child}/fd").iterdir()):
                        os.kill(child, signal.SIGKILL)
            time.sleep(0.002)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = decode_all(paths, (16, 16, 3), DecodeSpec(16), None, Watched(), processes=2)
    finally:
        done.set()
        killer.join()
    assert found.problems == [
        (paths.index("photos/a/huge.png"), "not a readable image (its decoding ended with signal 9)")
    ]
    assert len(found.digests) == 61 * 16


@pytest.mark.slow
def test_processes_that_do_not_start_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    write_many(Path("photos"), 40, side=16)
    paths = sorted(map(str, Path("photos").rglob("*.jpg")))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RunFailed, match="a decoding process did not start: /bin/false"):
        decode_all(paths, (16, 16, 3), DecodeSpec(16), None, Watched(), processes=2)


@pytest.mark.exhaustive
def test_of_two_runs_at_once_one_decodes_and_both_are_right() -> None:
    write_many(Path("photos"), 400, side=200)
    both = [in_a_process("photos", 200) for _ in range(2)]
    decoded = [process.communicate(timeout=HANG_SECONDS)[0] for process in both]
    assert sorted(decoded) == ["0\n", "400\n"]
    found, again = all_of(Path("photos"))
    assert again == 0
    assert torch.equal(found, expected(Path("photos")))
    assert [path.suffix for path in stores()] == [".rows"]


def decoders(cache: str) -> list[str]:
    """Decoding processes that were started with this cache folder in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (
                b"serve.py" in (process / "cmdline").read_bytes()
                and cache.encode() in (process / "environ").read_bytes()
            ):
                found.append(process.name)
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes through /proc")
def test_what_a_killed_run_leaves_is_never_used_and_cleaned_up() -> None:
    write_many(Path("photos"), 1000, side=300)
    killed = in_a_process("photos", 300)
    wait_until(lambda: stores() and stores()[0].stat().st_size > 0 and decoders(os.environ["XDG_CACHE_HOME"]))
    killed.kill()
    killed.communicate()
    wait_until(lambda: not decoders(os.environ["XDG_CACHE_HOME"]))
    assert [path.suffix for path in stores()] == [".part"]
    write_photos(Path("others"), 4)
    all_of(Path("others"))
    assert [path.suffix for path in stores()] == [".rows"]
    assert all_of(Path("photos"))[1] == 1000


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.exhaustive)])
def test_a_signal_while_decoding_ends_the_run_and_leaves_nothing(number: int, server: ForkServer) -> None:
    write_many(Path("photos"), 2000, side=300)
    words = ("data=image_folder", "data.root=photos", "data.size=200", "model=ann", "data.cache=cache")
    run = server.start(*words)
    wait_until(lambda: any(path.stat().st_size for path in Path("cache").glob("*")))
    os.kill(run.pid, number)
    done = run.end()
    assert done.code == 128 + number, done.err
    assert "Traceback" not in done.err
    assert not list(Path("cache").iterdir())
    assert not Path("outputs").exists()


# What is kept for how long


def test_a_store_in_use_stays(photos: Path) -> None:
    in_use = image_folder(str(photos))
    (path,) = stores()
    (photos / "a" / "000.jpg").touch()
    all_of(photos)
    assert path in stores()
    assert torch.equal(in_use.splits["train"].take(torch.arange(12)), expected(photos))
    del in_use
    (photos / "a" / "000.jpg").touch()
    all_of(photos)
    assert path not in stores()
    assert len(stores()) == 1


def test_old_stores_and_too_many_go(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "pqrs":
        write_photos(Path(name), 4)
    all_of(Path("p"))
    all_of(Path("q"))
    p, q = sorted(stores(), key=lambda path: path.stat().st_mtime_ns)
    month = time.time() - 31 * 24 * 3600
    os.utime(q, (month, month))
    os.utime(p, (month + 48 * 3600,) * 2)
    all_of(Path("r"))
    assert q not in stores()
    assert p in stores()
    mine = cache.default_folder() / "mine.txt"
    mine.write_text("x" * 10_000)
    monkeypatch.setattr(cache, "KEEP_BYTES", 7_000)  # 4 x 16 x 16 x 3 each: two fit
    all_of(Path("s"))
    assert p not in stores()
    assert len([path for path in stores() if path != mine]) == 2
    assert mine.exists()


def test_use_keeps_a_store_young(photos: Path) -> None:
    all_of(photos)
    (path,) = stores()
    month = time.time() - 31 * 24 * 3600
    os.utime(path, (month, month))
    all_of(photos)
    assert path.stat().st_mtime > time.time() - 60


# How it is read


def test_samples_travel_to_workers_as_a_path(photos: Path) -> None:
    write_photos(photos, 200, side=32)
    part = image_folder(str(photos), size=32).splits["train"]
    sent = pickle.dumps(part)
    assert len(sent) < 0.1 * len(part) * 3 * 32 * 32
    assert torch.equal(pickle.loads(sent).take(torch.arange(200)), part.take(torch.arange(200)))


def test_batches_are_the_same_resident_and_streamed(photos: Path) -> None:
    data = load(image_folder(str(photos)), valid_fraction=0.2, test_fraction=0.2, seed=0)
    split, cpu = data.splits["train"], torch.device("cpu")
    form = InputForm(data.prepare, cpu, torch.float32)
    fetches = [ResidentFetch(split, form, prepared=True), ResidentFetch(split, form, prepared=False)]
    fetches += [StreamedFetch(split, form, workers=workers) for workers in (0, 2)]
    order = list(torch.randperm(len(split)).split(3))
    first, *others = (list(fetch(order)) for fetch in fetches)
    for other in others:
        for (inputs, targets), (other_inputs, other_targets) in zip(first, other, strict=True):
            assert torch.equal(inputs, other_inputs)
            assert torch.equal(targets, other_targets)
    fetches[-1].close()


LIMITED = """
import resource, sys, torch, torchmetrics, torchvision
from trainer import cli
torch.set_num_threads(1)
torch.zeros(100, 100) @ torch.zeros(100, 100)
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[1]),) * 2)
assert cli.run_train([*sys.argv[2:], "data.resident=false"]) == 0
print("streamed")
try:
    cli.run_train([*sys.argv[2:], "data.resident=true"])
except (MemoryError, RuntimeError) as error:
    print("refused" if "llocate" in str(error) else error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory that is not a file's")
def test_a_folder_larger_than_memory_trains() -> None:
    """1,000 images of 256 x 256 are 197 MB as bytes; the process may use 170 MB besides what its imports took."""
    write_many(Path("photos"), 1000, side=16)
    words = ["data=image_folder", "data.root=photos", "data.size=256", "data.workers=0", "batch_size=2", "epochs=1"]
    words += ["model=sequential", "model.layers=[{AvgPool2d: [64]}, Flatten, {Linear: [48, 1]}]", "plots=false"]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(170_000_000), *words, "threads=1", "max_steps=20", "device=cpu"],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert "\nstreamed\n" in done.stdout, done.stderr[-2000:]
    assert done.stdout.endswith("\nrefused\n"), done.stdout[-500:]  # the limit is one


def test_the_watch_is_told_of_every_image(photos: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    image_folder(str(photos), progress=lambda *now: calls.append(now))
    assert {what for what, _, _ in calls} == {ACTIVITY}
    assert calls[-1] == (ACTIVITY, 12, 12)
