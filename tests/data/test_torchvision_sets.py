"""torchvision's classification sets: files as they are published, read as torchvision reads them."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision import datasets

from helpers.datasets import write_images
from trainer.data.images import items
from trainer.data.sources import torchvision_dataset
from trainer.data.torchvision_sets import SETS
from trainer.errors import UserError

DRAW = np.random.default_rng(0)


def refusal(*arguments: object, **options: object) -> str:
    with pytest.raises(UserError) as error:
        torchvision_dataset(*arguments, **options)
    return str(error.value)


@pytest.mark.parametrize("name", SETS)
def test_torchvision_takes_the_arguments_of_each_split(name: str) -> None:
    factory = getattr(datasets, name.partition("-")[0])
    parameters = inspect.signature(factory).parameters
    for arguments in SETS[name].values():
        assert "kwargs" in parameters or arguments.keys() <= parameters.keys()
    assert "train" in SETS[name]
    sentence = refusal("nowhere", name)
    if "h5py" not in sentence:  # which PCAM needs before it looks for files
        assert f"{name} is not in this folder and nothing was downloaded" in sentence
    assert not Path("nowhere").exists()


def write_svhn(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Write MATLAB files [H, W, C, N] as published, in which class 10 is the digit 0; lift their checksums."""
    images = {}
    for split, count in (("train", 60), ("test", 20)):
        images[split] = DRAW.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        savemat(f"{split}_32x32.mat", {"X": images[split], "y": (np.arange(count) % 10 + 1)[:, None]})
        monkeypatch.setitem(datasets.SVHN.split_list, split, ["", f"{split}_32x32.mat", None])
    return images


def test_svhn_is_read_and_trained_as_its_files_say(train, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, images in write_svhn(monkeypatch).items():
        samples = torchvision_dataset(".", "SVHN").splits[split]
        assert torch.equal(samples.take(torch.arange(len(samples))), torch.from_numpy(images).permute(3, 2, 0, 1))
        assert samples.targets.tolist() == [(i + 1) % 10 for i in range(len(samples))]
    done = train("data=torchvision", "data.name=SVHN", "data.root=.", "max_steps=2", "threads=1")
    assert done.code == 0, done.err
    assert [entry["class"] for entry in done.results["test"]["per_class"]] == list("0123456789")


def test_image_files_are_decoded_as_torchvision_decodes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("eurosat") / "2750"
    write_images(folder, {"Forest": 3, "River": 3}, size=16)
    source = torchvision_dataset(".", "EuroSAT")
    loaded = datasets.EuroSAT(".")
    assert source.classes == ("Forest", "River")
    samples = source.splits["train"]
    for index, (image, label) in enumerate(loaded):
        assert torch.equal(samples.take(torch.tensor([index]))[0].permute(1, 2, 0), torch.from_numpy(np.array(image)))
        assert samples.targets[index] == label
    assert torchvision_dataset(".", "EuroSAT", size=8).splits["train"].take(torch.arange(6)).shape == (6, 3, 8, 8)
    monkeypatch.setattr(items, "MEMORY_SHARE", 0)
    assert "6 images of 16 x 16 pixels do not fit in memory. A smaller data.size" in refusal(".", "EuroSAT")


def test_what_cannot_be_read_is_one_sentence() -> None:
    write_images(Path("eurosat") / "2750", {"Forest": 2}, size=16)
    write_images(Path("eurosat") / "2750", {"River": 2}, size=20)
    sentence = "data.size: images differ in size: 16 x 16 and 20 x 20 pixels: data.size=224"
    assert refusal(".", "EuroSAT") == sentence
    Path("eurosat/2750/River/000.png").write_bytes(b"")
    assert "image 2 of EuroSAT" in refusal(".", "EuroSAT", size=8)
    assert "Did you mean SVHN?" in refusal(".", "SVNH")
    assert "data.size=0: expected a number of pixels" in refusal(".", "EuroSAT", size=0)
