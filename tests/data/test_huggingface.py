"""Data sets of Hugging Face's library: the samples of the same images and tables elsewhere, and no network."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.datasets import write_table
from trainer.data.huggingface import huggingface_dataset
from trainer.data.images.folder import image_folder
from trainer.data.tables.table import csv_table
from trainer.errors import UserError

datasets = pytest.importorskip("datasets")
DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
NAMES = ["ant", "bee", "cow"]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


def image_set(rows: slice, **features: Any) -> Any:
    pictures = [Image.fromarray(pixels) for pixels in PIXELS[rows]]
    columns = {"picture": pictures, "kind": [i % 3 for i in range(30)[rows]]}
    kinds = {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=NAMES)} | features
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


def refusal(name: object, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        huggingface_dataset(str(name), **options)
    return str(error.value)


def test_images_are_those_of_the_folder_or_file() -> None:
    whole = datasets.DatasetDict({"train": image_set(slice(24)), "validation": image_set(slice(24, 30))})
    whole.save_to_disk("disk")
    Path("files/data").mkdir(parents=True)
    whole["train"].to_parquet("files/data/train-00000-of-00001.parquet")
    whole["validation"].to_parquet("files/data/validation-00000-of-00001.parquet")
    image_set(slice(24), kind=datasets.Value("int64")).to_parquet("plain.parquet")
    sources = [huggingface_dataset(name, target="kind") for name in ("disk", "files", "plain.parquet")]
    assert huggingface_dataset("disk").fingerprint == sources[0].fingerprint
    assert [list(source.splits) for source in sources] == [["train", "valid"], ["train", "valid"], ["train"]]
    assert [source.classes for source in sources] == [tuple(NAMES), tuple(NAMES), ("0", "1", "2")]
    for source in sources:
        samples = source.splits["train"]
        assert torch.equal(samples.take(torch.arange(24)), torch.from_numpy(PIXELS[:24]).permute(0, 3, 1, 2))
        assert samples.targets.tolist() == [i % 3 for i in range(24)]
    assert sources[0].fingerprint == sources[1].fingerprint


def test_a_folder_of_parquet_images_is_read_by_the_advised_command() -> None:
    Path("pictures/data").mkdir(parents=True)
    image_set(slice(15)).to_parquet("pictures/data/train-0.parquet")
    image_set(slice(15, 30)).to_parquet("pictures/data/train-1.parquet")
    for folder in ("pictures", "pictures/data"):
        with pytest.raises(UserError, match=r"its 2 Parquet files hold images\. Train on them: train ") as error:
            image_folder(folder)
        data, name = error.value.problems[0].command.split()[1:]
        assert data == "data=huggingface"
        source = huggingface_dataset(name.removeprefix("data.name="))
        assert source.fingerprint == huggingface_dataset("pictures").fingerprint
    Path("tables").mkdir()
    datasets.Dataset.from_dict({"a": [1, 2]}).to_parquet("tables/a.parquet")
    with pytest.raises(UserError, match="its 1 Parquet files are not read"):
        image_folder("tables")


@pytest.mark.slow
def test_the_command_trains_and_evaluates(train, verb) -> None:
    image_set(slice(30)).to_parquet("pictures.parquet")
    done = train("data=huggingface", "data.name=pictures.parquet", "model=cnn", "epochs=1", "threads=1")
    assert done.code == 0, done.err
    evaluated = verb("evaluate", done.folder)
    assert evaluated.code == 0, evaluated.err


def test_a_table_is_that_of_the_same_csv_file() -> None:
    write_table(Path("people.csv"))
    Path("people.csv").write_text(Path("people.csv").read_text().replace(";", ","))
    frame = datasets.Dataset.from_csv("people.csv").remove_columns("id")
    frame.to_parquet("people.parquet")
    one = huggingface_dataset("people.parquet", target="kind", missing="median")
    other = csv_table("people.csv", "kind", drop=["id"], missing="median")
    assert one.fingerprint == other.fingerprint
    assert "data.target: which column is to be predicted? There is: height, colour" in refusal("people.parquet")
    assert "Did you mean kind?" in refusal("people.parquet", target="kin")


def test_what_cannot_be_read_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("empty").mkdir()
    Path("bad.parquet").write_bytes(b"PAR1")
    assert "no Parquet files and no data set in this folder" in refusal("empty")
    assert "no such folder or file; expected" in refusal("nothing.parquet")
    assert "data.name=bad.parquet: not readable" in refusal("bad.parquet")
    sentence = refusal("owner/name")
    assert sentence.endswith("neither a folder nor in the cache of the hub's library: data.download=true")
    datasets.DatasetDict({"test": image_set(slice(3))}).save_to_disk("tested")
    assert "there is no train split, but test" in refusal("tested")
    image_set(slice(3)).to_parquet("few.parquet")
    assert "column kind holds no images" in refusal("few.parquet", image="kind")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'trainer-cli[huggingface]'" in refusal("few.parquet")
