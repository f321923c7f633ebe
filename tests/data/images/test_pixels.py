"""The pixels that image files are decoded to: grey or colour, any height and width, 12 and 16 bits, HEIC."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

import trainer
from helpers.datasets import write_images
from trainer.data.images import decode as decoding
from trainer.data.images.decode import BadImage, DecodeSpec, decode
from trainer.data.images.folder import image_folder
from trainer.errors import UserError


def colours(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


# Channels and sizes


def test_grey_images_are_those_of_pillow() -> None:
    Image.fromarray(colours()).save("colour.png")
    Image.fromarray(colours()).convert("LA").save("transparent.png")
    for name in ("colour.png", "transparent.png"):
        with Image.open(name) as image:
            grey = image.convert("L")
        expected = grey.resize((20, 30), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(decode(name, DecodeSpec((30, 20), channels=1))[..., 0], np.asarray(expected))
        np.testing.assert_array_equal(decode(name, DecodeSpec(channels=1))[..., 0], np.asarray(grey))


def test_a_pair_is_height_and_width() -> None:
    Image.fromarray(colours()).save("x.png")
    with Image.open("x.png") as image:
        squashed = image.resize((64, 48), Image.Resampling.BILINEAR)
        cropped = transforms.CenterCrop((24, 30))(transforms.Resize(32)(image))
    np.testing.assert_array_equal(decode("x.png", DecodeSpec((48, 64))), np.asarray(squashed))
    np.testing.assert_array_equal(decode("x.png", DecodeSpec((24, 30), 32)), np.asarray(cropped))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"size": [48]}, None),
        ({"size": []}, r"data\.size=\[\]: expected a number of pixels from 1, or two: \[height,width\]"),
        ({"size": [1, 2, 3]}, "expected a number of pixels from 1, or two"),
        ({"size": [0, 2]}, "expected a number of pixels from 1, or two"),
        ({"size": [20, 40], "resize": 30}, r"data\.resize=30: .* Give a data\.size up to 30"),
        ({"channels": 2}, r"data\.channels=2: expected 3 for colour or 1 for grey"),
        ({"channels": True}, r"data\.channels=true: expected 3"),
        ({"range": 0}, r"data\.range=0: expected the value of white"),
        ({"range": [5, 5]}, "expected the value of white"),
        ({"range": "12bit"}, r"data\.range=12bit: expected the value of white"),
        ({"range": 10**400}, "expected the value of white"),
        ({"follow_links": "yes"}, r"data\.follow_links=yes: expected true or false"),
    ],
)
def test_options_out_of_range_are_refused(words, sentence: str | None) -> None:
    write_images(Path("photos"), {"ant": 5, "bee": 5})
    if sentence is None:
        assert image_folder("photos", **words).splits["train"].take(torch.arange(1)).shape == (1, 3, 48, 48)
        return
    with pytest.raises(UserError, match=sentence):
        image_folder("photos", **words)


def test_a_run_on_grey_images_of_two_sides_predicts_what_it_tested(train) -> None:
    """The checkpoint, the prediction of a file and that of its array agree with the cached rows of the run."""
    write_images(Path("photos"), {"ant": 10, "bee": 10}, size=20)
    words = ["data=image_folder", "data.root=photos", "data.channels=1", "data.size=[12,16]", "model=cnn"]
    run = train(*words, "epochs=1")
    assert run.code == 0, run.err
    assert "2 classes; 1x12x16" in run.out
    predictor = trainer.load(run.folder)
    assert predictor.prepare.shape == (1, 12, 16)
    rows = image_folder("photos", size=[12, 16], channels=1).splits["train"].take(torch.arange(20))
    files = [f"photos/{name}/{i:03}.png" for name in ("ant", "bee") for i in range(10)]
    assert torch.equal(predictor.raw(files), rows)
    assert torch.equal(predictor.predict(files), predictor.predict(rows))
    wide = train(*words[:2], "data.channels=1", "data.size=[40,64]", "model=resnet18", "model.weights=none", "epochs=1")
    assert "repeated from 1 to 3 channels" in wide.out, wide.err
    assert trainer.load(wide.folder).prepare.output_shape == (3, 40, 64)


# 12 and 16 bits


def deep(highest: int) -> np.ndarray:
    return np.linspace(0, highest, 64).astype(np.uint16).reshape(8, 8)


@pytest.mark.parametrize(("highest", "shift"), [(4095, 4), (65535, 8), (1023, 2)])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_stated_range_keeps_the_upper_8_of_its_bits(highest: int, shift: int, suffix: str) -> None:
    Image.fromarray(deep(highest)).save(f"x.{suffix}")
    found = decode(f"x.{suffix}", DecodeSpec(channels=1, range=(0, highest)))[..., 0]
    np.testing.assert_array_equal(found, deep(highest) >> shift)
    assert (found.min(), found.max()) == (0, 255)
    np.testing.assert_array_equal(decode(f"x.{suffix}", DecodeSpec(range=(0, highest)))[..., 2], found)


def test_black_may_be_negative_and_values_may_be_fractions() -> None:
    """Hounsfield units of a CT, and floats."""
    units = np.linspace(-1024, 3071, 64).astype(np.int32).reshape(8, 8)
    Image.fromarray(units).save("ct.tif")
    found = decode("ct.tif", DecodeSpec(channels=1, range=(-1024, 3071)))[..., 0]
    np.testing.assert_array_equal(found, (units + 1024) >> 4)
    floats = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    Image.fromarray(floats).save("float.tif")
    found = decode("float.tif", DecodeSpec(channels=1, range=(0, 1)))[..., 0]
    np.testing.assert_array_equal(found, np.minimum(np.floor(floats.astype(np.float64) * 256), 255))


@pytest.mark.parametrize("value", [5000, 65535])
def test_a_value_beyond_the_stated_range_is_refused(value: int) -> None:
    image = deep(4095)
    image[3, 3] = value
    Image.fromarray(image).save("x.png")
    with pytest.raises(BadImage, match=rf"values from 0 to {value}, where data\.range=\[0,4095\]"):
        decode("x.png", DecodeSpec(range=(0, 4095)))
    floats = np.array([[0.5, np.nan]], dtype=np.float32)
    Image.fromarray(floats).save("nan.tif")
    with pytest.raises(BadImage, match="values from nan"):
        decode("nan.tif", DecodeSpec(range=(0, 1)))


def test_the_format_may_state_the_range() -> None:
    twelve = deep(4095)
    rows = np.packbits(((twelve[..., None] >> np.arange(11, -1, -1)) & 1).reshape(8, -1).astype(np.uint8), axis=1)
    tags = [(256, 8), (257, 8), (258, 12), (259, 1), (262, 1), (273, 122), (277, 1), (278, 8), (279, rows.nbytes)]
    header = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(tags))
    header += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + struct.pack("<I", 0)
    Path("twelve.tif").write_bytes(header.ljust(122, b"\0") + rows.tobytes())
    np.testing.assert_array_equal(decode("twelve.tif", DecodeSpec(channels=1))[..., 0], twelve >> 4)
    Image.fromarray(deep(65535).astype(np.int32)).save("x.pgm")
    np.testing.assert_array_equal(decode("x.pgm", DecodeSpec(channels=1))[..., 0], deep(65535) >> 8)


def png_of_16_bits(colours: np.ndarray) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = colours.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_colour_of_16_bits_is_never_almost_black() -> None:
    dark = np.stack([deep(4095)] * 3, 2)
    Path("dark.png").write_bytes(png_of_16_bits(dark))
    with pytest.raises(BadImage, match="16 bits per channel of colour with values below 4096: almost black"):
        decode("dark.png", DecodeSpec())
    with pytest.raises(BadImage, match=r"Pillow reads the upper 8: data\.range is for grey"):
        decode("dark.png", DecodeSpec(range=(0, 4095)))
    Path("bright.png").write_bytes(png_of_16_bits(np.stack([deep(65535)] * 3, 2)))
    for spec in (DecodeSpec(), DecodeSpec(range=(0, 65535))):
        np.testing.assert_array_equal(decode("bright.png", spec)[..., 0], deep(65535) >> 8)
    Image.new("RGB", (8, 8), (3, 2, 1)).save("night.png")  # 8 bits may be dark
    assert decode("night.png", DecodeSpec()).max() == 3


def test_the_advice_for_12_bits_trains_and_predicts(train) -> None:
    for name in ("ant", "bee"):
        Path("photos", name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(np.roll(deep(4000), i)).save(f"photos/{name}/{i}.png")
    refused = train("data=image_folder", "data.root=photos", "model=ann", "epochs=1")
    assert refused.code == 2
    assert "16 bits per channel with values up to 4000: almost black as 8 bits; data.range=4095" in refused.err
    words = ["data=image_folder", "data.root=photos", "data.range=4095", "data.channels=1", "model=ann", "epochs=1"]
    run = train(*words)
    assert run.code == 0, run.err
    predictor = trainer.load(run.folder)
    np.testing.assert_array_equal(predictor.raw("photos/ant/2.png")[0, 0].numpy(), np.roll(deep(4000), 2) >> 4)


# HEIC


def test_heic_photos_are_read_with_the_extra_and_named_without(train, monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    write_images(Path("photos"), {"ant": 6, "bee": 6}, size=16)
    flat = Image.new("RGB", (16, 16), (200, 30, 60))
    flat.save("photos/ant/phone.heic", quality=100)
    Path("photos/bee/phone.jpg").write_bytes(Path("photos/ant/phone.heic").read_bytes())  # as some phones export it
    source = image_folder("photos").splits["train"]
    assert len(source) == 14
    for row in (6, 13):
        seen = source.take(torch.tensor([row]))[0].float().mean((1, 2))
        assert (seen - torch.tensor([200.0, 30, 60])).abs().max() < 4

    decoding.register_heif.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for name in list(Image.EXTENSION):
        if Image.EXTENSION[name] == "HEIF":
            monkeypatch.delitem(Image.EXTENSION, name)
    monkeypatch.delitem(Image.OPEN, "HEIF")
    install = "pip install 'trainer-cli[heic]'"
    with pytest.raises(UserError) as raised:
        image_folder("photos")
    assert f"bee/phone.jpg (class bee): a HEIC photo, which needs pillow-heif: {install}" in str(raised.value)
    Path("photos/bee/phone.jpg").unlink()
    assert image_folder("photos").notes == [f"left out: 1 HEIC photo; {install}"]
    for path in Path("photos/bee").iterdir():
        path.unlink()
    Path("photos/bee/phone.HEIC").write_bytes(b"")
    with pytest.raises(UserError, match=r"no images in this class folder, but 1 HEIC photo\. .*trainer-cli\[heic\]"):
        image_folder("photos")
    decoding.register_heif.cache_clear()
