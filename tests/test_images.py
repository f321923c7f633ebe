"""Folders of images: each fault of a real file is named with its path, and what can be read is read right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from PIL import Image

from trainer.data.images import decode, image_folder
from trainer.data.load import load
from trainer.errors import UserError


def pixels(seed: int = 0, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(path: Path, seed: int = 0, height: int = 8, width: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, height, width)).save(path)
    return path


@pytest.fixture
def photos() -> Path:
    """Two classes of ten images of 8x8."""
    for label in ("ant", "bee"):
        for i in range(10):
            write(Path("photos") / label / f"{i}.png", i)
    return Path("photos")


def read_all(root: Path) -> None:
    """Reads every sample, as training would."""
    data = load(image_folder(str(root)), valid_fraction=0.2, test_fraction=0.2, seed=0)
    for split in data.splits.values():
        split.samples.take(split.indices)


def test_a_folder_per_class(photos: Path) -> None:
    source = image_folder(str(photos))
    assert source.classes == ("ant", "bee")
    assert source.parts["train"].targets.tolist() == [0] * 10 + [1] * 10
    assert torch.equal(source.parts["train"].input(13), torch.from_numpy(pixels(3)).permute(2, 0, 1))


def test_parts_have_their_names_and_never_mix(photos: Path) -> None:
    for part, count in (("train", 6), ("val", 2), ("test", 3)):
        for label in ("ant", "bee"):
            for i in range(count):
                write(Path("parts") / part / label / f"{i}.png")
    data = load(image_folder("parts"), valid_fraction=0.2, test_fraction=0.2, seed=0)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 12, "valid": 4, "test": 6}


def spoil(path: Path, how: str) -> None:
    whole = path.read_bytes()
    damaged = {
        "corrupt": bytes([*whole[:60], *(byte ^ 0x55 for byte in whole[60:])]),
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"this is no image\n",
    }
    path.write_bytes(damaged[how])


@pytest.mark.parametrize("how", ["corrupt", "truncated", "empty", "text"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_damaged_file_is_named(how: str, suffix: str, photos: Path) -> None:
    bad = write(photos / "bee" / f"bad.{suffix}", 1)
    spoil(bad, how)
    with pytest.raises(UserError, match=rf"bee/bad\.{suffix} \(class bee\): not a readable image"):
        read_all(photos)


def split_folder(root: Path) -> list[str]:
    """Photos in parts, and the words that train on them as a stream."""
    for part in ("train", "valid", "test"):
        for label in ("ant", "bee"):
            for i in range(4):
                write(root / part / label / f"{i}.jpg", i)
    return ["data=image_folder", f"data.root={root}", "model=ann", "epochs=1", "batch_size=3", "plots=false"]


def test_a_damaged_file_met_while_streaming_is_one_sentence(train) -> None:
    words = split_folder(Path("parts"))
    spoil(Path("parts/valid/bee/2.jpg"), "truncated")
    done = train(*words, "data.resident=false", "data.workers=0")
    assert done.code in (1, 2)
    assert "parts/valid/bee/2.jpg (class bee): not a readable image" in done.err
    assert "Traceback" not in done.err


def test_a_damaged_file_met_by_a_worker_is_one_sentence_and_the_end() -> None:
    words = split_folder(Path("parts"))
    spoil(Path("parts/valid/bee/2.jpg"), "truncated")
    # In a process of its own: one that waits for its workers for ever must not take these tests along.
    done = subprocess.run(
        [sys.executable, "-m", "trainer", *words, "data.resident=false", "data.workers=1"],
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode in (1, 2)
    assert "parts/valid/bee/2.jpg (class bee): not a readable image" in done.stderr
    assert "Traceback" not in done.stderr


def test_16_bits_are_refused(photos: Path) -> None:
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(photos / "ant" / "deep.png")
    with pytest.raises(UserError, match=r"deep\.png: 16 or 32 bits"):
        read_all(photos)


def test_too_many_pixels_are_refused(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(photos / "ant" / "big.png", 0, 20, 20)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # Pillow itself only warns up to twice this
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(UserError, match=r"big\.png: 20x20 pixels"):
        read_all(photos)


def test_other_sizes_need_data_size(photos: Path) -> None:
    write(photos / "bee" / "wide.png", 0, 8, 12)
    with pytest.raises(UserError, match=r"wide\.png: 12x8 pixels.*8x8.*data\.size=N"):
        read_all(photos)
    resized = image_folder(str(photos), size=6).parts["train"]
    assert resized.take(torch.arange(21)).shape == (21, 3, 6, 6)
    expected = Image.fromarray(pixels(0, 8, 12)).resize((6, 6), Image.Resampling.BILINEAR)
    assert torch.equal(resized.input(20), torch.from_numpy(np.array(expected)).permute(2, 0, 1))


def test_an_empty_class_is_named(photos: Path) -> None:
    (photos / "cat").mkdir()
    (photos / "cat" / "notes.txt").write_text("no image")
    with pytest.raises(UserError, match="photos/cat: no images"):
        image_folder(str(photos))


def test_one_class_is_not_enough() -> None:
    write(Path("single/ant/0.png"))
    with pytest.raises(UserError, match=r"1 class folders; expected .* two classes or more"):
        image_folder("single")


def test_parts_with_other_classes_are_refused(photos: Path) -> None:
    photos.rename("train")
    Path("parts").mkdir()
    Path("train").rename("parts/train")
    for label in ("ant", "cat"):  # as many, so that the labels alone would not tell
        write(Path("parts/test") / label / "0.png")
    with pytest.raises(UserError, match=r"parts/test: its classes are not those of parts/train: bee, cat"):
        image_folder("parts")


@pytest.mark.parametrize(("root", "sentence"), [("nowhere", "no such folder"), ("parts", "but no train folder")])
def test_a_folder_that_is_none(root: str, sentence: str) -> None:
    for label in ("ant", "bee"):
        write(Path("parts/test") / label / "0.png")
    with pytest.raises(UserError, match=sentence):
        image_folder(root)


def test_hidden_files_and_folders_are_no_data(photos: Path) -> None:
    before = image_folder(str(photos))
    (photos / ".cache").mkdir()
    write(photos / ".cache" / "0.png")
    (photos / "ant" / "._0.png").write_bytes(b"what a Mac leaves behind")
    (photos / "ant" / "Thumbs.db").write_bytes(b"what Windows leaves behind")
    (photos / "readme.txt").write_text("not a class")
    after = image_folder(str(photos))
    assert after.classes == before.classes
    assert after.parts["train"].fingerprint() == before.parts["train"].fingerprint()


def test_a_photo_taken_sideways_stands_upright() -> None:
    image = Image.fromarray(pixels(0, 4, 6))
    exif = image.getexif()
    exif[0x0112] = 6  # Orientation: to be turned a quarter clockwise
    image.save("sideways.png", exif=exif)
    expected = np.rot90(pixels(0, 4, 6), -1).copy()
    assert torch.equal(decode(Path("sideways.png"), None), torch.from_numpy(expected).permute(2, 0, 1))


def test_gray_palette_and_transparent_images_become_rgb() -> None:
    gray = pixels()[..., 0]
    Image.fromarray(gray).save("gray.png")
    assert torch.equal(decode(Path("gray.png"), None), torch.from_numpy(gray).expand(3, -1, -1))
    few = (pixels() // 128 * 255).astype(np.uint8)  # eight colours, which a palette holds exactly
    palette = Image.fromarray(few).quantize(8, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    palette.save("palette.png")
    assert Image.open("palette.png").mode == "P"
    assert torch.equal(decode(Path("palette.png"), None), torch.from_numpy(few).permute(2, 0, 1))
    opaque = np.concatenate([pixels(), np.full((8, 8, 1), 255, np.uint8)], axis=2)
    Image.fromarray(opaque).save("rgba.png")
    assert torch.equal(decode(Path("rgba.png"), None), torch.from_numpy(pixels()).permute(2, 0, 1))


def test_the_fingerprint_follows_files_and_labels(photos: Path) -> None:
    def fingerprint() -> bytes:
        return image_folder(str(photos)).parts["train"].fingerprint()

    first = fingerprint()
    assert fingerprint() == first
    write(photos / "ant" / "3.png", 77)
    second = fingerprint()
    assert second != first
    (photos / "ant" / "3.png").rename(photos / "bee" / "30.png")
    assert fingerprint() not in (first, second)


def test_a_run_is_the_same_resident_and_streamed(train) -> None:
    words = split_folder(Path("parts"))
    kept, streamed = train(*words), train(*words, "data.resident=false", "data.workers=1")
    assert kept.code == streamed.code == 0, kept.err + streamed.err
    for part in ("train", "valid", "test"):
        assert kept.results[part] == streamed.results[part]
