"""Arrays in files: the same samples in whatever file they are, and a sentence for each file that cannot be used."""

from __future__ import annotations

import csv
import json
import os
import re
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trainer
from helpers.runs import REPOSITORY
from trainer import device
from trainer.data.arrays import inputs
from trainer.data.arrays.containers import arrays_in
from trainer.data.arrays.inputs import MappedArray, layout_of
from trainer.data.arrays.names import pairs
from trainer.data.arrays.source import array_file
from trainer.data.dataset import load
from trainer.data.source import Source
from trainer.data.tables.table import csv_table
from trainer.errors import UserError

DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (60, 6, 6), dtype=np.uint8)
LABELS = np.arange(60) % 3
FRACTIONS = {"valid_fraction": 0.2, "test_fraction": 0.2, "seed": 0}


def write_safetensors(path: Path, arrays: dict[str, np.ndarray], **changes: Any) -> None:
    """Write a file as the format's description says: the length of the header, the header, the numbers."""
    codes = {"uint8": "U8", "int64": "I64", "float32": "F32"}
    header: dict[str, Any] = {"__metadata__": {"format": "np"}}
    content = b""
    for name, array in arrays.items():
        begin = len(content)
        content += array.tobytes()
        entry = {"dtype": codes[array.dtype.name], "shape": list(array.shape), "data_offsets": [begin, len(content)]}
        header[name] = entry | changes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)


def refusal(**arguments: Any) -> str:
    with pytest.raises(UserError) as error:
        array_file(**arguments)
    return str(error.value)


def inputs_of(source: Source, split: str = "train") -> torch.Tensor:
    samples = source.splits[split]
    return samples.take(torch.arange(len(samples)))


# The same samples from each kind of file


def every_file() -> dict[str, dict[str, str]]:
    """Write the same arrays to each kind of file; return the arguments that read it."""
    np.savez("plain.npz", images=IMAGES, labels=LABELS)
    np.savez_compressed("compressed.npz", images=IMAGES, labels=LABELS)
    Path("folder").mkdir()
    np.save("folder/images.npy", IMAGES)
    np.save("folder/labels.npy", LABELS)
    np.save("fortran.npy", np.asfortranarray(IMAGES))
    np.save("big.npy", LABELS.astype(">i4"))
    write_safetensors(Path("tensors.safetensors"), {"images": IMAGES, "labels": LABELS})
    os.symlink("plain.npz", "link.npz")
    files = ("plain.npz", "compressed.npz", "folder", "tensors.safetensors", "link.npz")
    return {name: {"path": name} for name in files} | {"two files": {"x": "fortran.npy", "y": "big.npy"}}


def test_every_kind_of_file_gives_the_same_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    files = every_file()
    read = {name: array_file(**arguments) for name, arguments in files.items()}
    monkeypatch.setattr(inputs, "MEMORY_SHARE", 0)
    mapped = {name: array_file(**arguments) for name, arguments in files.items() if name != "compressed.npz"}
    assert all(isinstance(source.splits["train"], MappedArray) for source in mapped.values())
    for source in (*read.values(), *mapped.values()):
        assert torch.equal(inputs_of(source), torch.from_numpy(IMAGES)[:, None])
        assert source.splits["train"].targets.tolist() == LABELS.tolist()
        assert source.classes == ("0", "1", "2")
        assert source.fingerprint == read["plain.npz"].fingerprint
    other = IMAGES.copy()
    other[7, 3, 3] ^= 1
    np.savez("plain.npz", images=other, labels=LABELS)
    assert array_file("plain.npz").fingerprint != read["plain.npz"].fingerprint
    assert "compressed" in refusal(path="compressed.npz")


def test_a_mapped_file_that_changes_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MEMORY_SHARE", 0)
    every_file()
    source = array_file("plain.npz")
    inputs_of(source)
    os.utime("plain.npz", (1, 1))
    with pytest.raises(UserError, match=r"plain\.npz: the file has changed since the run began"):
        inputs_of(source)


def test_rows_are_prepared_as_those_of_a_table_with_the_same_numbers() -> None:
    rows = DRAW.normal(3, 9, (80, 4)).round(3)
    rows[5, 2] = np.nan
    target = DRAW.integers(0, 2, 80)
    np.savez("rows.npz", X=rows, y=target)
    with open("rows.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["x0", "x1", "x2", "x3", "y"])
        writer.writerows([*["" if np.isnan(x) else x for x in row], y] for row, y in zip(rows, target, strict=True))
    data = [
        load(source, **FRACTIONS)
        for source in (array_file("rows.npz", missing="mean"), csv_table("rows.csv", "y", missing="mean"))
    ]
    assert data[0].fingerprint == data[1].fingerprint
    assert data[0].prepare == data[1].prepare
    for name, split in data[0].splits.items():
        other = data[1].splits[name]
        raw, others = (each.samples.take(each.indices) for each in (split, other))
        assert torch.equal(data[0].prepare(raw), data[1].prepare(others))
        assert torch.equal(split.targets, other.targets)
    assert "missing values (NaN). Choose data.missing=mean or median." in refusal(path="rows.npz")


def test_images_of_floats_are_scaled_per_channel() -> None:
    images = DRAW.normal((5, 0, -2), (3, 1, 0.5), (90, 6, 6, 3)).astype(np.float32)
    images[..., 2] = 7  # a constant channel is centred and not divided
    np.savez("floats.npz", x=images, y=np.arange(90) % 2)
    data = load(array_file("floats.npz"), **FRACTIONS)
    train = images[data.splits["train"].indices.numpy()].astype(np.float64)
    np.testing.assert_allclose(data.prepare.mean, train.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(data.prepare.std[:2], train.std((0, 1, 2))[:2], rtol=1e-12)
    assert data.prepare.std[2] == 1


# Shapes, names and targets


@pytest.mark.parametrize(
    ("shape", "dtype", "layout"),
    [
        ((9, 4), "f8", "NF"),
        ((9, 28, 28), "f4", "NHW"),
        ((9, 28, 20), "u1", "NHW"),
        ((9, 128, 6), "f4", "NTF"),
        ((9, 28, 28, 1), "f4", "NHWC"),
        ((9, 20, 30, 3), "u1", "NHWC"),
        ((9, 3, 20, 30), "u1", "NCHW"),
        ((9, 1, 28, 28), "f4", "NCHW"),
    ],
)
def test_the_shape_says_what_the_samples_are(shape: tuple[int, ...], dtype: str, layout: str) -> None:
    assert layout_of(shape, np.dtype(dtype), "x") == layout


def test_whole_numbers_of_a_byte_are_bytes() -> None:
    for name, images in {"bytes": IMAGES.astype(np.int64), "large": IMAGES.astype(np.int64) + 1}.items():
        np.savez(f"{name}.npz", x=images, y=LABELS)
    assert inputs_of(array_file("bytes.npz")).dtype == torch.uint8
    assert inputs_of(array_file("large.npz")).dtype == torch.float32


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        ("X y", "train"),
        ("data target", "train"),
        ("arr_0 arr_1", "train"),
        ("x_train y_train x_test y_test", "train test"),
        ("train_images train_labels val_images val_labels test_images test_labels", "train valid test"),
        ("Xtrain ytrain Xtest ytest", "train test"),
        ("training/inputs training/targets validation/inputs validation/targets", "train valid"),
        ("x y weights latest", "train"),
    ],
)
def test_usual_names_are_recognised(names: str, splits: str) -> None:
    np.savez("named.npz", **{name: np.zeros((2, 2)) for name in names.split()})
    assert list(pairs(arrays_in("named.npz"), "named.npz", None, None)) == splits.split()


def test_names_of_a_users_own_are_typed() -> None:
    np.savez("own.npz", spectra_train=np.ones((4, 3)), kind_train=LABELS[:4], spectra_test=np.ones((2, 3)),
             kind_test=LABELS[:2], other=LABELS)  # fmt: skip
    source = array_file("own.npz", "spectra", "kind")
    assert {name: len(samples) for name, samples in source.splits.items()} == {"train": 4, "test": 2}
    assert list(array_file("own.npz", "spectra_train", "kind_train").splits) == ["train"]
    assert "no array is called like inputs (x, data" in refusal(path="own.npz")
    assert "other (int64 [60])" in refusal(path="own.npz")
    assert "Did you mean spectra_train?" in refusal(path="own.npz", x="spectra_tran", y="kind")
    assert "there are no targets of the test split" in refusal(path="own.npz", x="spectra", y="other")


@pytest.mark.parametrize(
    ("target", "task", "classes", "labels"),
    [
        ([4, 7, 4, 9], None, ("4", "7", "9"), [0, 1, 0, 2]),
        ([10, 9, 9, 10], None, ("9", "10"), [1, 0, 0, 1]),
        (["b", "a", "b", "é"], None, ("a", "b", "é"), [1, 0, 1, 2]),
        ([b"b", b"a", b"b", b"a"], None, ("a", "b"), [1, 0, 1, 0]),
        ([True, False, True, True], None, ("false", "true"), [1, 0, 1, 1]),
        ([[0, 1], [1, 0], [1, 0], [0, 1]], None, ("0", "1"), [1, 0, 0, 1]),
        ([[3], [5], [3], [3]], None, ("3", "5"), [0, 1, 0, 0]),
        ([1.0, 0.0, 1.0, 1.0], "binary", ("0", "1"), [1, 0, 1, 1]),
        ([1.5, 0.0, 1.0, 1.0], None, (), [1.5, 0.0, 1.0, 1.0]),
        ([1, 0, 5, 1], "regression", (), [1, 0, 5, 1]),
    ],
)
def test_the_type_of_the_targets_says_the_task(target: Any, task: Any, classes: Any, labels: list[float]) -> None:
    np.savez("t.npz", x=np.ones((4, 2)), y=np.array(target))
    source = array_file("t.npz", task=task)
    assert source.classes == classes
    assert source.splits["train"].targets.tolist() == labels
    assert source.task == ("classification" if classes else "regression")


@pytest.mark.parametrize(
    ("arrays", "arguments", "sentence"),
    [
        ({"y": [1.5, 2.5]}, {"task": "multiclass"}, "data.task=multiclass: y holds 2.5, no whole number"),
        ({"y": ["a", "b"]}, {"task": "regression"}, "y holds texts, such as 'a'"),
        ({"y": [1, 1]}, {}, "all samples are of one class, 1"),
        ({"y": [1.5, np.nan]}, {}, "y holds 1 missing values (NaN)"),
        ({"y": [[1, 1], [0, 1]]}, {}, "several ones or none"),
        ({"y": [[1, 2], [3, 4]]}, {}, "y is int64 [2, 2]; expected one target for each sample"),
        ({"y": [0, 1]}, {"classes": ["cat"]}, "data.classes=['cat']: expected a different name for each of 2 classes"),
        ({"y": [0, 1]}, {"task": "multi"}, "data.task=multi: expected binary, multiclass, multilabel, reg"),
        ({"y": [0, 1]}, {"layout": "HWN"}, "data.layout=HWN: expected NF"),
        ({"y": [0, 1]}, {"layout": "NHW"}, "x is float64 [2, 2], of 2 axes"),
        ({"y": [0, 1]}, {"missing": "drop"}, "data.missing=drop: expected mean or median"),
        ({"y": [0, 1, 2]}, {}, "expected as many targets as samples"),
        ({"y": [0, 1], "x": np.ones((2, 4, 4, 4))}, {}, "which axis holds the channels is not clear"),
        ({"y": [0, 1], "x": np.ones(2)}, {}, "x is float64 [2]; expected rows [N, F]"),
        ({"y": [0, 1], "x": np.ones((2, 0))}, {}, "x is float64 [2, 0] and y int64 [2]; expected as many targets"),
        ({"y": [0, 1], "x": np.array(["a", "b"])[:, None]}, {}, "x is text [2, 1]; expected numbers"),
        ({"y": [0, 1], "x": np.array([[1], [np.inf]])}, {}, "x holds 1 infinite numbers"),
        ({"y": [0, 1], "images": np.ones((2, 2))}, {}, "both x and images could be meant. Choose: data.x=images"),
        ({"y": range(50), "x": np.ones((50, 1))}, {}, "as if each were a class of its own"),
    ],
)
def test_arrays_that_cannot_be_used_are_one_sentence(arrays: dict, arguments: dict, sentence: str) -> None:
    np.savez("bad.npz", **({"x": np.ones((2, 2))} | {name: np.array(array) for name, array in arrays.items()}))
    assert sentence in refusal(path="bad.npz", **arguments)


# Hostile files


class Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, ("harmed",)


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode()


def npz_of(content: bytes) -> None:
    with zipfile.ZipFile("bad.npz", "w") as archive:
        archive.writestr("x.npy", content)
        archive.writestr("y.npy", content)


HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (%s,), }"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (header(HEADER % "10**3"), "not a readable array"),
        (header(HEADER % "1000000000000"), "float64 [1000000000000] need 8,000,000,000,000 bytes, and the file has 0"),
        (header(HEADER % "-5"), "its shape is [-5]"),
        (header("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }"), "it holds Python objects"),
        (header("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (0,), }"), "its type is datetime64[s]"),
        (header("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (0,), }"), "expected numbers"),
        (header("[" * 5000), "not a readable array"),
        (header("__import__('os').mkdir('harmed')"), "not a readable array"),
        (b"\x93NUMPY\x03\x00", "version 3.0"),
        (b"\x80\x04", "not a readable array"),
        (b"", "not a readable array"),
    ],
)
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_hostile_header_is_one_sentence(kind: str, content: bytes, sentence: str) -> None:
    if kind == "npz":
        npz_of(content)
        assert sentence in refusal(path="bad.npz")
    else:
        Path("bad.npy").write_bytes(content)
        assert sentence in refusal(x="bad.npy", y="bad.npy")
    assert not Path("harmed").exists()


def test_pickles_are_not_loaded() -> None:
    objects = np.array([Harmful(), Harmful()], dtype=object)
    np.savez("objects.npz", x=objects, y=objects)
    assert "it holds Python objects, which only code in the file could restore" in refusal(path="objects.npz")
    Path("x.pkl").write_bytes(b"")
    assert "a pickle, which may hold code; expected a .npz" in refusal(path="x.pkl")
    assert not Path("harmed").exists()


def test_compressed_zeros_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed("zeros.npz", x=np.zeros((2, 2)), y=np.zeros((2, 500_000)))
    monkeypatch.setattr(device, "free_memory", lambda place: 10**6)
    assert "y: float64 [2, 500000] need 8,000,000 bytes, more than half of the free memory" in refusal(path="zeros.npz")


def test_a_damaged_file_is_one_sentence() -> None:
    every_file()
    whole = Path("compressed.npz").read_bytes()
    for cut in (10, len(whole) // 2, len(whole) - 30):
        Path("cut.npz").write_bytes(whole[:cut])
        assert "cut.npz: not a readable array" in refusal(path="cut.npz")
    plain = bytearray(Path("plain.npz").read_bytes())
    plain[600] ^= 1  # among the pixels
    Path("flipped.npz").write_bytes(plain)
    assert "Bad CRC-32" in refusal(path="flipped.npz")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dtype": "F4"}, "its type is F4; expected one of F64"),
        ({"shape": [10**9, 10**9]}, "need 8,000,000,000,000,000,000 bytes"),
        ({"shape": [60, -6]}, "its header is not that of a safetensors file"),
        ({"data_offsets": [10**12, 10**12 + 480]}, "end after the file does"),
        ({"data_offsets": ["a", 1]}, "its header is not that of a safetensors file"),
        ({"shape": None}, "its header is not that of a safetensors file"),
    ],
)
def test_a_hostile_safetensors_file_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    write_safetensors(Path("bad.safetensors"), {"x": LABELS}, **changes)
    assert sentence in refusal(path="bad.safetensors")
    Path("long.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")
    assert "its header is said to have" in refusal(path="long.safetensors")


@pytest.mark.usefixtures("no_hang")
def test_what_is_no_file_is_one_sentence() -> None:
    os.mkfifo("pipe.npz")
    assert "not a regular file" in refusal(path="pipe.npz")
    os.mkfifo("pipe.npy")
    assert "not a regular file" in refusal(x="pipe.npy", y="pipe.npy")
    os.symlink("/dev/zero", "zero.npz")
    assert "not a regular file" in refusal(path="zero.npz")
    Path("empty").mkdir()
    assert "no .npy files in this folder" in refusal(path="empty")
    assert "data.path=none.npz: no such file" in refusal(path="none.npz")
    assert "expected data.path=FILE, or the two files" in refusal()


def test_the_command_trains_evaluates_and_goes_on(train, verb, capfd) -> None:
    np.savez("seq.npz", x=DRAW.normal(size=(60, 5, 3)).astype(np.float32), y=LABELS)
    Path("own_sequences.py").write_text(
        "import torch\nclass Net(torch.nn.Module):\n    def __init__(self, num_outputs):\n        super().__init__()\n"
        "        self.gru = torch.nn.GRU(3, 8, batch_first=True)\n        self.head = torch.nn.Linear(8, num_outputs)\n"
        "    def forward(self, x):\n        return self.head(self.gru(x)[0][:, -1])\n"
    )
    sys.path.append(os.getcwd())
    words = ("data=arrays", "data.path=seq.npz", "model._target_=own_sequences.Net", "threads=1")
    done = train(*words, "epochs=2")
    assert done.code == 0, done.err
    assert "x float32 [60, 5, 3]: sequences; data.layout overrides it" in done.out
    Path("seq.npz").rename("moved.npz")
    evaluated = verb("evaluate", done.folder, "--trust", "data.path=moved.npz")
    assert evaluated.code == 0, evaluated.err
    (file,) = done.folder.glob("evaluation-*.json")
    assert json.loads(file.read_text())["test"]["accuracy"] == done.results["test"]["accuracy"]
    whole = train(*[word.replace("seq.npz", "moved.npz") for word in words], "epochs=4")
    resumed = train(f"resume={done.folder}", "epochs=4", "data.path=moved.npz", "trust=true")
    assert resumed.code == 0, resumed.err
    assert resumed.results["test"] == whole.results["test"]


def test_the_example_of_the_docs_trains(train) -> None:
    text = (REPOSITORY / "docs" / "data.md").read_text().partition("## Arrays")[2].partition("\n## ")[0]
    program, command = (re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)[1] for language in ("python", "sh"))
    exec(program)
    done = train(*command.split()[1:], "max_steps=60", "threads=1")
    assert done.code == 0, done.err
    assert "x float64 [1797, 8, 8]: grey images" in done.out
    assert done.results["test"]["accuracy"] > 0.8


def test_files_of_arrays_are_predicted(trained, verb) -> None:
    every_file()
    run = trained("data=arrays", f"data.path={Path('folder').resolve()}", "model=mlp", "epochs=1")
    probabilities = trainer.load(run).predict(IMAGES)
    names = ("compressed.npz", "fortran.npy", "tensors.safetensors")
    done = verb("predict", run, *names, "bad.npy", "--top", "1", "--out", "answers.csv")
    assert done.code == 1, done.err
    assert "bad.npy" in done.err
    rows = list(csv.DictReader(Path("answers.csv").read_text().splitlines()))
    assert [row["input"] for row in rows[:2]] == ["compressed.npz[0]", "compressed.npz[1]"]
    for number in range(3):
        answers = [row["class"] for row in rows[60 * number : 60 * number + 60]]
        assert answers == [str(label) for label in probabilities.argmax(1).tolist()]
