"""Folders of images: which files are read, how each is decoded, and how each fault of a real file is reported."""

from __future__ import annotations

import io
import json
import os
import shlex
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from helpers.datasets import write_images
from helpers.processes import HANG_SECONDS
from helpers.runs import REPOSITORY
from trainer.data.dataset import load
from trainer.data.images import source
from trainer.data.images.decode import BadImage, DecodeSpec, decode
from trainer.data.images.folder import image_folder
from trainer.errors import UserError

AS_IT_IS = DecodeSpec()


def pixels(seed: int = 0, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(path: Path, seed: int = 0, height: int = 8, width: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, height, width)).save(path)
    return path


def as_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.copy()).permute(2, 0, 1)


@pytest.fixture
def photos() -> Path:
    """Two classes of ten images of 8x8."""
    return write_images(Path("photos"), {"ant": 10, "bee": 10})


def parts(root: Path, **names: str) -> Path:
    """Write four images of each class for each split: {folder: classes}."""
    return write_images(root, {f"{part}/{label}": 4 for part, labels in names.items() for label in labels.split()})


def stored(path: Path | str) -> torch.Tensor:
    """Return the pixels of a file as Pillow reads them, [3, H, W]."""
    with Image.open(path) as image:
        return as_tensor(np.asarray(image))


# Which files are taken


def test_a_folder_per_class(photos: Path) -> None:
    source = image_folder(str(photos))
    assert source.classes == ("ant", "bee")
    assert source.splits["train"].targets.tolist() == [0] * 10 + [1] * 10
    assert torch.equal(source.splits["train"].take(torch.tensor([13]))[0], stored("photos/bee/003.png"))
    assert source.notes == []


def test_one_folder_is_split_by_class_and_says_so(photos: Path) -> None:
    data = load(image_folder(str(photos)), valid_fraction=0.25, test_fraction=0.2, seed=0)
    assert {name: torch.bincount(s.targets).tolist() for name, s in data.splits.items()} == {
        "train": [6, 6],
        "valid": [2, 2],
        "test": [2, 2],
    }
    assert data.notes == ["no test split: 20% of the samples held out for it"]
    kept = [p for split in data.splits.values() for p in split.indices.tolist()]
    assert sorted(kept) == list(range(20))


@pytest.mark.parametrize("names", ["train valid test", "train val test", "Training Validation Testing"])
def test_parts_have_their_names_and_never_mix(names: str) -> None:
    counts = dict(zip(names.split(), (6, 2, 3), strict=True))
    write_images(Path("parts"), {f"{part}/{label}": counts[part] for part in counts for label in ("ant", "bee")})
    data = load(image_folder("parts"), valid_fraction=0.2, test_fraction=0.2, seed=0)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 12, "valid": 4, "test": 6}
    for split, (part, count) in zip(data.splits.values(), counts.items(), strict=True):
        last = stored(f"parts/{part}/bee/{count - 1:03}.png")
        assert torch.equal(split.samples.take(split.indices)[-1], last)


def test_two_folders_for_one_part_are_refused() -> None:
    parts(Path("parts"), train="ant bee", val="ant bee", validation="ant bee")
    with pytest.raises(UserError, match="both val and validation are the valid split"):
        image_folder("parts")


def test_folders_beside_the_parts_are_left_out_and_said() -> None:
    parts(Path("parts"), train="ant bee", test="ant bee", labels="x")
    assert image_folder("parts").notes == ["ignored, because they are not splits: labels"]


def test_a_class_may_be_called_train(photos: Path) -> None:
    write_images(photos, {"train": 4})
    source = image_folder(str(photos))
    assert source.classes == ("ant", "bee", "train")
    assert source.notes == ["train is a class: it contains no folders, and there are other folders beside it"]


def test_only_the_classes_asked_for_in_their_order() -> None:
    parts(Path("parts"), train="ant bee cat", test="ant bee cat")
    source = image_folder("parts", classes=["cat", "ant"])
    assert source.classes == ("cat", "ant")
    for part in source.splits.values():
        assert part.targets.tolist() == [0] * 4 + [1] * 4


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (["ant", "been"], r"no class been\. Did you mean bee\? There is: ant, bee"),
        (["ant", "ant"], "two different classes or more"),
        (["ant"], "two different classes or more"),
        ("ant", "expected a list of class folders"),
    ],
)
def test_classes_that_make_no_sense_are_refused(classes, sentence: str, photos: Path) -> None:
    with pytest.raises(UserError, match=sentence):
        image_folder(str(photos), classes=classes)


def test_hidden_files_and_folders_are_no_data_and_others_are_counted(photos: Path) -> None:
    before = image_folder(str(photos))
    for hidden in (".cache", "__MACOSX"):
        write(photos / hidden / "0.png")
    write(photos / "ant" / ".thumbnails" / "0.png")
    (photos / "ant" / "._0.png").write_bytes(b"what a Mac leaves behind")
    (photos / "ant" / "Thumbs.db").write_bytes(b"what Windows leaves behind")
    (photos / "bee" / "notes.txt").write_text("no image")
    (photos / "readme.txt").write_text("not a class")
    write(photos / "loose.png")
    os.mkfifo(photos / "ant" / "pipe.png")  # opening it would never return
    after = image_folder(str(photos))
    assert after.classes == before.classes
    assert after.splits["train"].fingerprint() == before.splits["train"].fingerprint()
    assert after.notes == [
        "left out: 3 files that are not images",
        "left out: 1 image outside the class folders",
    ]


def test_folders_inside_a_class_belong_to_it(photos: Path) -> None:
    write(photos / "ant" / "red" / "small" / "0.png", 99)
    source = image_folder(str(photos))
    assert source.classes == ("ant", "bee")
    assert source.splits["train"].targets.tolist() == [0] * 11 + [1] * 10
    assert source.notes == ["class folders hold folders: the images in them belong to the class"]


def test_links_that_leave_the_root_are_not_followed_and_loops_end(photos: Path) -> None:
    write(Path("elsewhere/0.png"))
    (photos / "ant" / "out.png").symlink_to(Path("elsewhere/0.png").resolve())
    (photos / "ant" / "gone.png").symlink_to("nowhere.png")
    (photos / "ant" / "self.png").symlink_to("self.png")
    (photos / "cat").symlink_to(Path("elsewhere").resolve())
    (photos / "ant" / "up").symlink_to("..")
    (photos / "ant" / "x").symlink_to("../bee")
    (photos / "bee" / "y").symlink_to("../ant")
    (photos / "bee" / "twin.png").symlink_to("000.png")
    source = image_folder(str(photos), classes=["bee", "ant"])
    assert source.classes == ("bee", "ant")
    assert torch.bincount(source.splits["train"].targets).tolist() == [21, 21]
    assert source.notes[-2:] == [
        "left out: 3 symbolic links that lead back or nowhere",
        "left out: 2 symbolic links that lead outside; data.follow_links=true",
    ]


def test_links_that_lead_outside_are_followed_on_request(photos: Path) -> None:
    """Folders and files elsewhere, with loops through them, give what the same files give inside."""
    whole = image_folder(str(photos)).splits["train"]
    photos.rename("elsewhere")
    Path("linked").mkdir()
    for name in ("ant", "bee"):
        Path("linked", name).symlink_to(Path("elsewhere", name).resolve())
    Path("elsewhere/ant/up").symlink_to("..")
    Path("elsewhere/ant/root").symlink_to(Path("linked").resolve())
    Path("elsewhere/bee/twin").symlink_to(Path("elsewhere/bee").resolve())
    Path("elsewhere/bee/self").symlink_to("self")
    with pytest.raises(
        UserError, match=r"0 class folders.*, but 2 symbolic links that lead outside\. This includes them: data"
    ):
        image_folder("linked")
    source = image_folder("linked", follow_links=True)
    assert source.splits["train"].fingerprint() == whole.fingerprint()
    assert source.notes == ["left out: 4 symbolic links that lead back or nowhere"]
    Path("files/ant").mkdir(parents=True)
    Path("files/bee").mkdir()
    for path in Path("elsewhere").glob("*/*.png"):
        Path("files", path.parent.name, path.name).symlink_to(path.resolve())
    with pytest.raises(UserError, match=r"files/ant: no images in this class folder, but \d+ symbolic links that lead"):
        image_folder("files")
    assert image_folder("files", follow_links=True).splits["train"].fingerprint() == whole.fingerprint()


def test_the_root_itself_may_be_a_link(photos: Path) -> None:
    Path("link").symlink_to(photos)
    assert len(image_folder("link").splits["train"]) == 20


def test_an_empty_class_is_named(photos: Path) -> None:
    (photos / "cat").mkdir()
    (photos / "cat" / "notes.txt").write_text("no image")
    with pytest.raises(UserError, match="photos/cat: no images"):
        image_folder(str(photos))


def test_one_class_is_not_enough() -> None:
    write_images(Path("single"), {"ant": 1})
    with pytest.raises(UserError, match=r"^single: 1 class folders; expected .* two classes or more\.$"):
        image_folder("single")
    parts(Path("outer"), inner="ant bee")
    with pytest.raises(UserError, match=r"two classes or more\. Did you mean data.root=outer/inner\?"):
        image_folder("outer")


def test_parts_with_other_classes_are_refused() -> None:
    parts(Path("parts"), train="ant bee", test="ant cat")  # as many, so that the labels alone would not tell
    with pytest.raises(UserError, match=r"parts/test: its classes are not those of parts/train: bee, cat"):
        image_folder("parts")


@pytest.mark.parametrize("place", ["test", "test/unknown"])
def test_test_images_without_classes_are_predicted_on_request(place: str, train, verb) -> None:
    """Nothing is held out for a test; the closing line names the command that predicts them."""
    parts(Path("parts"), train="ant bee")
    whole = image_folder("parts", classes=["ant", "bee"]).splits["train"]
    write_images(Path("parts"), {place: 3})
    (Path("parts") / place / "notes.txt").write_text("no image")
    run = train("data=image_folder", "data.root=parts", "model=ann", "epochs=1", "batch_size=4")
    assert run.code == 0, run.err
    assert "6 train, 2 valid; 2 classes" in run.out
    assert "test holds 3 images without classes: nothing is held out or tested" in run.out
    assert "left out" not in run.out
    assert (run.results["test"], run.results["unlabelled"]) == (None, True)
    assert image_folder("parts").splits["train"].fingerprint() == whole.fingerprint()
    [line] = [line for line in run.out.splitlines() if line.startswith("predict ")]
    predicted = verb(*shlex.split(line)[2:])
    assert (predicted.code, len(predicted.out.splitlines())) == (0, 3), predicted.err
    again = train(f"resume={run.folder}")
    assert "the run is finished, nothing is left to do" in again.out
    assert "the run's data has no such split; it has train, valid" in verb("evaluate", run.folder, "--part", "test").err
    assert verb("evaluate", run.folder, "--part", "valid").code == 0
    assert "with torch on 2 validation samples" in verb("export", run.folder, "--format", "pt2").out
    checked = json.loads(verb("doctor", "--json", "--no-training", "data=image_folder", "data.root=parts").out)
    assert not [f for f in checked["findings"] if f["check"] in ("class lists", "images left out")]


@pytest.mark.parametrize(
    ("root", "sentence"),
    [
        ("nowhere", "no such folder"),
        ("parts", "test but no train folder"),
        ("file", "a file; expected a folder"),
    ],
)
def test_a_folder_that_is_none(root: str, sentence: str) -> None:
    parts(Path("parts"), test="ant bee")
    Path("file").write_text("")
    with pytest.raises(UserError, match=sentence):
        image_folder(root)


def test_a_folder_is_needed(train) -> None:
    refused = train("data=image_folder", "data.root=null")
    assert (refused.code, refused.err) == (2, "train: error: data.root=null: expected the folder of the data.\n")


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder, and rights that end at permissions even where the tests run as root."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        try:
            yield Path(place)
        finally:
            for path in Path(place).rglob("*"):
                path.chmod(0o777)
            os.seteuid(before)


@pytest.mark.parametrize("which", [".", "bee"])
def test_a_folder_that_may_not_be_read_is_named(which: str, unprivileged: Path) -> None:
    root = parts(unprivileged, photos="ant bee") / "photos"
    (root / which).chmod(0)
    with pytest.raises(UserError, match=rf"{(root / which)}: this folder cannot be read \(Permission denied\)"):
        image_folder(str(root), cache="false")


def test_a_file_that_may_not_be_read_is_named(unprivileged: Path) -> None:
    root = parts(unprivileged, photos="ant bee") / "photos"
    (root / "bee" / "002.png").chmod(0)
    with pytest.raises(UserError, match=r"bee/002\.png \(class bee\): not a readable image \(Permission denied\)"):
        image_folder(str(root), cache="false")


def test_names_that_are_no_text(photos: Path, train) -> None:
    (photos / "ant" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    done = train(
        "data=image_folder", f"data.root={photos}", "data.on_bad_image=skip", "model=ann", "epochs=1", "batch_size=4"
    )
    assert done.code == 0, done.err
    assert [skipped["path"] for skipped in done.results["skipped_images"]] == ["ant/caf\ufffd.png"]
    (photos / "ant").rename(photos / os.fsdecode(b"\xe9"))
    with pytest.raises(UserError, match="the name of a class must be UTF-8"):
        image_folder(str(photos))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"size": 0}, r"data\.size=0: expected a number of pixels from 1"),
        ({"size": True}, r"data\.size=true: expected a number"),
        ({"size": 8.5}, r"data\.size=8\.5: expected a number"),
        ({"resize": 8}, r"data\.resize=8: .* data\.size=null"),
        ({"resize": 8, "size": 9}, r"Give a data\.size up to 8"),
        ({"interpolation": "nearest"}, r"data\.interpolation=nearest: expected bilinear or bicubic"),
        ({"on_bad_image": "ignore"}, r"data\.on_bad_image=ignore: expected error or skip"),
        ({"cache": None}, r"data\.cache=null: expected auto, true, false or a folder"),
    ],
)
def test_settings_out_of_range_are_refused(words, sentence: str, photos: Path) -> None:
    with pytest.raises(UserError, match=sentence):
        image_folder(str(photos), **words)


# Sizes


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("height", "width", "resize", "size"),
    [(40, 61, 32, 28), (61, 40, 33, 28), (20, 30, 37, 37), (57, 57, 57, 24), (90, 33, 25, 24), (31, 200, 32, 31)],
)
def test_resizing_is_torchvisions(interpolation: str, height: int, width: int, resize: int, size: int) -> None:
    path = write(Path("x.png"), 1, height, width)
    method = InterpolationMode(interpolation)
    preset = ImageClassification(
        crop_size=size, resize_size=resize, mean=(0, 0, 0), std=(1, 1, 1), interpolation=method
    )
    expected = (preset(Image.open(path)) * 255).round().byte()
    assert torch.equal(as_tensor(decode(path, DecodeSpec(size, resize, interpolation))), expected)


def test_other_sizes_need_data_size(photos: Path) -> None:
    write(photos / "bee" / "wide.png", 0, 8, 12)
    for cache in ("auto", "false"):
        with pytest.raises(UserError, match=r"wide\.png: 12x8 pixels, where the first image has 8x8.*data\.size=N"):
            image_folder(str(photos), cache=cache, on_bad_image="skip")
    resized = image_folder(str(photos), size=6).splits["train"]
    assert resized.take(torch.arange(21)).shape == (21, 3, 6, 6)
    expected = Image.fromarray(pixels(0, 8, 12)).resize((6, 6), Image.Resampling.BILINEAR)
    assert torch.equal(resized.take(torch.tensor([20]))[0], as_tensor(np.array(expected)))


def test_a_strip_that_would_become_endless_is_refused() -> None:
    write(Path("strip.png"), 0, 1, 4000)
    with pytest.raises(BadImage, match="4000x1 pixels are more than the 89,478,485 accepted, resized to 1024000x256"):
        decode("strip.png", DecodeSpec(224, 256))


# Formats


def test_a_photo_taken_sideways_stands_upright() -> None:
    upright = pixels(0, 4, 6)
    stored = {  # how a camera that was held so writes the pixels
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    for orientation, turned in stored.items():
        image = Image.fromarray(np.ascontiguousarray(turned))
        exif = image.getexif()
        exif[0x0112] = orientation
        image.save("sideways.png", exif=exif)
        np.testing.assert_array_equal(decode("sideways.png", AS_IT_IS), upright, err_msg=str(orientation))


def saved(image: Image.Image, name: str, mode: str, **options) -> np.ndarray:
    """Save and decode an image, after checking the mode in which Pillow opens it."""
    image.save(name, **options)
    with Image.open(name) as opened:
        assert opened.mode == mode
    return decode(name, AS_IT_IS)


def test_gray_one_bit_and_palette_images_become_rgb() -> None:
    gray = pixels()[..., 0]
    np.testing.assert_array_equal(saved(Image.fromarray(gray), "gray.png", "L"), np.stack([gray] * 3, 2))
    bits = Image.fromarray(gray).point(lambda value: 255 * (value > 127)).convert("1")
    np.testing.assert_array_equal(saved(bits, "bits.png", "1"), np.stack([(gray > 127) * 255] * 3, 2))
    few = (pixels() // 128 * 255).astype(np.uint8)  # eight colours, which a palette holds exactly
    palette = Image.fromarray(few).quantize(8, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    np.testing.assert_array_equal(saved(palette, "palette.png", "P"), few)


def test_what_is_transparent_lies_on_white() -> None:
    rgb, alpha = pixels(), pixels(1)[..., :1]
    alpha[0, :4] = [[0], [255], [0], [255]]
    expected = rgb * (alpha / 255) + 255 * (1 - alpha / 255)
    found = saved(Image.fromarray(np.concatenate([rgb, alpha], 2)), "rgba.png", "RGBA")
    np.testing.assert_allclose(found, expected, atol=1)
    np.testing.assert_array_equal(found[alpha[..., 0] == 255], rgb[alpha[..., 0] == 255])
    assert (found[alpha[..., 0] == 0] == 255).all()
    gray = saved(Image.fromarray(np.concatenate([rgb[..., :1], alpha], 2)), "la.png", "LA")
    np.testing.assert_allclose(gray[..., 1], expected[..., 0], atol=1)
    plane = Image.fromarray((rgb[..., 0] // 128).astype(np.uint8), mode="P")
    plane.putpalette([10, 20, 30, 40, 50, 60])
    found = saved(plane, "palette.png", "P", transparency=0)
    np.testing.assert_array_equal(found, np.where(rgb[..., :1] // 128 == 0, 255, [40, 50, 60]))
    one_colour = Image.fromarray(np.full((4, 4, 3), 7, np.uint8))
    assert (saved(one_colour, "keyed.png", "RGB", transparency=(7, 7, 7)) == 255).all()


def test_cmyk_is_turned_into_rgb() -> None:
    image = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    assert np.abs(saved(image, "cmyk.tif", "CMYK") - np.array([0, 255, 255])).max() == 0
    assert np.abs(saved(image, "cmyk.jpg", "CMYK").astype(int) - np.array([0, 255, 255])).max() < 12


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_of_16_bits_the_upper_8_are_kept(name: str) -> None:
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040
    found = saved(Image.fromarray(deep), name, "I;16")
    np.testing.assert_array_equal(found, np.stack([deep // 256] * 3, 2))
    assert found.max() == 255


def test_16_bits_of_which_few_are_used_are_refused() -> None:
    Image.fromarray(np.full((8, 8), 1023, np.uint16)).save("ten_bits.png")
    with pytest.raises(BadImage, match="16 bits per channel with values up to 1023"):
        decode("ten_bits.png", AS_IT_IS)
    assert (saved(Image.fromarray(np.zeros((8, 8), np.uint16)), "night.png", "I;16") == 0).all()


def test_16_bits_of_colour_are_scaled() -> None:
    """A PNG by hand: Pillow writes none."""
    colours = np.array([[0x0012, 0x80FF, 0xFFFF], [0x1234, 0x00FF, 0x0100]], dtype=">u2")

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    data = zlib.compress(b"\0" + colours.tobytes())
    Path("rgb16.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    np.testing.assert_array_equal(decode("rgb16.png", AS_IT_IS)[0], colours >> 8)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bits_are_refused(dtype) -> None:
    Image.fromarray(np.full((8, 8), 40_000, dtype=dtype)).save("deep.tif")
    with pytest.raises(BadImage, match="32 bits per channel"):
        decode("deep.tif", AS_IT_IS)


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode("moving.gif", AS_IT_IS)[0, 0], [255, 0, 0])


@pytest.mark.parametrize("suffix", ["bmp", "ppm", "tga", "tiff", "webp", "jp2", "ico", "dds", "sgi", "pcx", "qoi"])
def test_other_formats_are_taken(suffix: str, photos: Path) -> None:
    options = {"lossless": True} if suffix == "webp" else {"irreversible": False} if suffix == "jp2" else {}
    try:
        Image.fromarray(pixels(5, 16, 16)).save(photos / "ant" / f"x.{suffix}", **options)
    except (KeyError, OSError, ValueError):
        pytest.skip(f"this Pillow writes no {suffix}")
    assert len(image_folder(str(photos), size=8).splits["train"]) == 21
    np.testing.assert_array_equal(decode(photos / "ant" / f"x.{suffix}", AS_IT_IS), pixels(5, 16, 16))


def test_postscript_is_not_run(photos: Path) -> None:
    image = io.BytesIO()
    Image.fromarray(pixels()).save(image, "eps")
    (photos / "ant" / "program.png").write_bytes(image.getvalue())
    (photos / "ant" / "program.eps").write_bytes(image.getvalue())
    with pytest.raises(UserError, match=r"program\.png \(class ant\): the format EPS is not supported"):
        image_folder(str(photos))


# Files that cannot be used


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
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp", "bmp"])
def test_a_damaged_file_is_named(how: str, suffix: str, photos: Path) -> None:
    if how == "corrupt" and suffix in ("bmp", "tif", "webp"):
        return  # in these any bytes are pixels
    bad = write(photos / "bee" / f"bad.{suffix}", 1)
    spoil(bad, how)
    with pytest.raises(UserError, match=rf"photos/bee/bad\.{suffix} \(class bee\): not a readable image"):
        image_folder(str(photos))


def test_too_many_pixels_are_refused_without_a_warning(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(photos / "ant" / "big.png", 0, 20, 20)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # Pillow itself only warns up to twice this
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError, match=r"big\.png \(class ant\): 20x20 pixels are more than the 300 accepted"):
            image_folder(str(photos))


def test_a_bomb_is_refused_by_its_header(photos: Path) -> None:
    """A real one: a kilobyte or so that claims 200 million pixels."""
    header = struct.pack(">IIBBBBB", 20_000, 10_000, 1, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (photos / "ant" / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\1\0IDAT")
    with pytest.raises(UserError, match=r"bomb\.png \(class ant\): not a readable image \(.*decompression bomb"):
        image_folder(str(photos))


def test_all_bad_files_are_told_at_once_and_counted_beyond_ten(photos: Path) -> None:
    for i in range(12):
        (photos / "bee" / f"bad{i:02}.png").write_bytes(b"")
    with pytest.raises(UserError) as raised:
        image_folder(str(photos))
    sentences = [str(problem) for problem in raised.value.problems]
    assert len(sentences) == 11
    assert all(f"photos/bee/bad{i:02}.png (class bee)" in sentences[i] for i in range(10))
    assert sentences[10] == "12 of 32 images cannot be used. data.on_bad_image=skip trains without them."


@pytest.mark.slow
def test_bad_files_are_skipped_and_listed(train) -> None:
    parts(Path("parts"), train="ant bee", valid="ant bee", test="ant bee")
    spoil(Path("parts/train/ant/000.png"), "truncated")
    spoil(Path("parts/test/bee/003.png"), "empty")
    words = ["data=image_folder", "data.root=parts", "model=ann", "epochs=1", "batch_size=3"]
    refused = train(*words)
    assert (refused.code, refused.folder) == (2, None)
    assert "parts/test/bee/003.png (class bee)" in refused.err
    assert "2 of 24 images cannot be used" in refused.err
    for _ in range(2):  # the second time they are known without being decoded
        done = train(*words, "data.on_bad_image=skip")
        assert done.code == 0, done.err
        assert "7 train, 8 valid, 7 test" in done.out
        assert "left out: 2 images that cannot be used; results.json names them" in done.out
        skipped = done.results["skipped_images"]
        assert [(bad["path"], bad["class"]) for bad in skipped] == [
            ("train/ant/000.png", "ant"),
            ("test/bee/003.png", "bee"),
        ]
        assert all("not a readable image" in bad["reason"] for bad in skipped)


def test_skipping_leaves_the_other_images_what_they_are(photos: Path) -> None:
    whole = image_folder(str(photos)).splits["train"].take(torch.arange(20))
    for i in (0, 4):
        spoil(photos / "ant" / f"{i:03}.png", "truncated")
    part = image_folder(str(photos), on_bad_image="skip").splits["train"]
    assert part.targets.tolist() == [0] * 8 + [1] * 10
    assert torch.equal(part.take(torch.arange(18)), whole[[1, 2, 3, *range(5, 20)]])


def test_a_class_of_which_nothing_is_left_is_refused() -> None:
    parts(Path("parts"), train="ant bee", test="ant bee")
    for i in range(4):
        spoil(Path(f"parts/test/bee/{i:03}.png"), "text")
    with pytest.raises(UserError, match="in the test split no image of the class bee can be used"):
        image_folder("parts", on_bad_image="skip")


def split_folder(root: Path) -> list[str]:
    """Photos in parts, and the words that train on them."""
    parts(root, train="ant bee", valid="ant bee", test="ant bee")
    return ["data=image_folder", f"data.root={root}", "model=ann", "epochs=1", "batch_size=3", "plots=false"]


def test_a_file_that_goes_bad_while_it_is_streamed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    split_folder(Path("parts"))
    monkeypatch.setattr(source, "MEMORY_SHARE", 0.0)
    samples = image_folder("parts", cache="false").splits["train"]
    spoil(Path("parts/train/bee/002.png"), "truncated")
    with pytest.raises(UserError, match=r"parts/train/bee/002\.png: not a readable image .* when the run began"):
        samples.take(torch.arange(8))


@pytest.mark.slow
def test_a_bad_file_is_one_sentence_and_the_end() -> None:
    words = split_folder(Path("parts"))
    spoil(Path("parts/valid/bee/002.png"), "truncated")
    done = subprocess.run(
        [sys.executable, "-m", "trainer", *words, "data.resident=false", "data.workers=1"],
        stderr=subprocess.PIPE,
        text=True,
        timeout=HANG_SECONDS,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 2
    assert "parts/valid/bee/002.png (class bee): not a readable image" in done.stderr
    assert "Traceback" not in done.stderr


# The same whatever the way


def test_the_fingerprint_follows_pixels_and_labels_not_places(photos: Path) -> None:
    def fingerprint(root: Path = photos) -> bytes:
        return image_folder(str(root)).splits["train"].fingerprint()

    first = fingerprint()
    assert fingerprint() == first
    photos.rename("moved")
    Path("moved/ant/000.png").touch()
    assert fingerprint(Path("moved")) == first
    Path("moved").rename(photos)
    write(photos / "ant" / "003.png", 77)
    second = fingerprint()
    assert second != first
    (photos / "ant" / "003.png").rename(photos / "bee" / "30.png")
    assert fingerprint() not in (first, second)


@pytest.mark.slow
def test_a_run_is_the_same_from_the_store_from_memory_and_streamed(train, monkeypatch: pytest.MonkeyPatch) -> None:
    words = split_folder(Path("parts"))
    done = [
        train(*words),
        train(*words, "data.cache=false"),
        train(*words, "data.resident=false", "data.workers=1"),
    ]
    monkeypatch.setattr(source, "MEMORY_SHARE", 0.0)
    done += [train(*words, "data.cache=false"), train(*words, "data.cache=false", "data.resident=false")]
    assert all("files are decoded whenever they are read" in one.out for one in done[3:])
    for one in done:
        assert one.code == 0, one.err
        for key in ("train", "valid", "test", "data_fingerprint"):
            assert one.results[key] == done[0].results[key]


def test_resume_notices_other_pixels_and_no_other_place(train) -> None:
    words = split_folder(Path("parts"))
    stopped = train(*words, "max_steps=1", "seed=1")
    Path("parts").rename("moved")
    first = Path("moved/train/ant/000.png")
    before = first.read_bytes()
    write(first, 5)
    refused = train(f"resume={stopped.folder}", "data.root=moved", "max_steps=null")
    assert refused.code == 2
    assert "the data is not what this run was trained on" in refused.err
    first.write_bytes(before)
    done = train(f"resume={stopped.folder}", "data.root=moved", "max_steps=null", "data.cache=false")
    assert done.code == 0, done.err
