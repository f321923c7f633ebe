"""Every YAML in conf/ has a description, composes and trains; new files are found by listing the folder."""

from __future__ import annotations

import gzip
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from helpers.datasets import CLASSES, write_images
from helpers.runs import REPOSITORY
from trainer.data import sources
from trainer.models.vision import natural_size, torchvision_model
from trainer.training.freeze import freeze

pytestmark = pytest.mark.slow

CONF = REPOSITORY / "conf"
FILES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))
OPTIONS = [name for name in FILES if "/" in name]
MODELS = [name.partition("/")[2] for name in OPTIONS if name.startswith("model/")]
DOWNLOADED = ["cifar10", "cifar100", "fashion_mnist", "mnist", "mnist_below_3"]
# What an option needs beside it: values that only a user has, or data and models that fit it.
LAYERS = "model.layers=[{Linear: [4, 8]}, Tanh, {Linear: [8, 3]}]"
BESIDE = {
    "data/torchvision": ["data.name=SVHN"],
    "data/huggingface": ["data.name=pictures.parquet"],
    "data/arrays": ["data.path=arrays.npz", "model=mlp"],
    "data/image_table": ["data.path=labels.csv", "data.image=file", "data.target=label"],
    "data/csv": ["data.path=table.csv", "data.target=y", "model=mlp"],
    "experiment/random_search": ["trial=0"],
    "experiment/water_potability": ["data.path=water.csv"],
    "loss/bce": ["data=breast_cancer", "model=perceptron"],
    "loss/bce_with_logits": ["data.relabel={even: [0,2,4,6,8], odd: rest}"],
    "loss/huber": ["data=diabetes", "model=mlp"],
    "loss/l1": ["data=diabetes", "model=mlp"],
    "loss/mse": ["data=diabetes", "model=mlp"],
    "loss/nll": ["data=iris", "model=mlp", "model.final=log_softmax", "model.output=log_probabilities"],
    "model/perceptron": ["data=breast_cancer"],
    "model/sequential": ["data=iris", LAYERS],
}
# torchvision's and timm's models: no weights can be downloaded here. The small ones train on small images; of the
# others, or where an image may not be small, a step is taken without numbers.
SMALL = {
    "resnet18": ["model.weights=none"],
    "torchvision": ["model.name=shufflenet_v2_x0_5", "model.weights=none"],
    "timm": ["model.name=resnet10t", "model.weights=none"],
}
LARGE = {
    "alexnet": 61_100_840,  # parameters with 1,000 classes, as in torchvision's table of models
    "densenet121": 7_978_856,
    "efficientnet_b0": 5_288_548,
    "inception_v3": 27_161_264,
    "mobilenet_v3_small": 2_542_856,
    "resnet152": 60_192_808,
    "resnet50": 25_557_032,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vit_b_16": 86_567_656,
}
BESIDE |= {f"model/{name}": words for name, words in SMALL.items()}
TABLES = ["arrays", "breast_cancer", "csv", "diabetes", "iris", "wine"]
IMAGE_MODELS = [name for name in MODELS if name not in ("perceptron", "sequential", *LARGE)]
STEPS = ["max_steps=2", "epochs=2", "batch_size=32"]

OWN_DATA = """
import torch

class Own(torch.utils.data.Dataset):
    def __len__(self):
        return 60
    def __getitem__(self, index):
        return torch.randn(8, generator=torch.Generator().manual_seed(index)), index % 3
"""


def write_arrays(path: Path) -> None:
    """Rows of four numbers with one of three classes."""
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.normal(size=(60, 4)), y=np.arange(60) % 3)


def write_water(path: Path) -> None:
    """Four measurements of 100 samples, one in ten missing, and whether the water may be drunk."""
    rng = np.random.default_rng(0)
    rows = ["ph,hardness,solids,chlorine,Potability"]
    for _ in range(100):
        values = rng.normal(size=4)
        cells = ["" if rng.random() < 0.1 else f"{value:.3f}" for value in values]
        rows.append(",".join([*cells, str(int(values.sum() > 0))]))
    path.write_text("\n".join(rows))


@pytest.mark.parametrize("name", FILES)
def test_the_first_line_says_what_it_is(name: str) -> None:
    lines = (CONF / f"{name}.yaml").read_text().splitlines()
    first = next(line for line in lines if "@package" not in line)
    assert first.startswith("# ")
    assert len(first.split()) >= 4


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "data/custom"])
def test_it_composes_and_is_told_as_chosen(name: str, job) -> None:
    group, option = name.split("/")
    assert job(f"{group}={option}", *BESIDE.get(name, [])).choices[group] == option


# Too small for the digits; of a purpose of its own: below; of more steps: test_profiling.py; too large: below.
ELSEWHERE = ("model/sequential_cnn", "debug/overfit", "debug/profile", *(f"model/{name}" for name in LARGE))
ALONE = ("data", "experiment", "metric")  # tested below, and metrics in components/test_metrics.py


@pytest.mark.parametrize("name", [n for n in OPTIONS if n.partition("/")[0] not in ALONE and n not in ELSEWHERE])
def test_it_trains(name: str, train) -> None:
    if name == "model/timm" or (name.startswith("logger/") and name != "logger/csv"):
        pytest.importorskip(name.partition("/")[2])
    done = train(name.replace("/", "="), *BESIDE.get(name, []), *STEPS)
    assert done.code == 0, done.err
    assert done.results["steps"] == 2


def test_a_model_that_the_digits_are_too_small_for_says_so(train) -> None:
    done = train("model=sequential_cnn")
    assert done.code == 2
    assert "9x9" in done.err
    assert "8x8" in done.err


def test_one_batch_is_learned_by_heart_or_the_run_fails(train) -> None:
    words = ["debug=overfit", "batch_size=16"]
    assert train(*words, "max_steps=2").code == 1
    learned = train(*words, "optim.lr=3e-3")
    assert learned.code == 0
    assert learned.results["train"]["accuracy"] == 1


@pytest.mark.parametrize("name", TABLES)
def test_a_table_trains(name: str, train) -> None:
    rows = "".join(f"{i % 7},{i % 5},{'ab'[i % 2]}\n" for i in range(40))
    Path("table.csv").write_text(f"a,b,y\n{rows}")
    write_arrays(Path("arrays.npz"))
    done = train(f"data={name}", *BESIDE.get(f"data/{name}", ["model=mlp"]), *STEPS)
    assert done.code == 0, done.err
    assert done.results["steps"] == 2


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_a_model_trains_on_colour_photos(name: str, train) -> None:
    if name == "timm":
        pytest.importorskip("timm")
    write_images(Path("photos"), dict.fromkeys(CLASSES, 20), size=32)
    done = train("data=image_folder", "data.root=photos", f"model={name}", *SMALL.get(name, []), *STEPS)
    assert done.code == 0, done.err
    assert done.results["steps"] == 2
    assert len(done.results["test"]["per_class"]) == 3


def test_timm_is_an_extra(train, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # what Python does where it is not installed
    done = train("model=timm", *SMALL["timm"])
    assert done.code == 2
    assert "pip install 'trainer-cli[timm]'" in done.err


@pytest.mark.parametrize("name", LARGE)
def test_a_large_model_takes_a_step_without_numbers(name: str, job) -> None:
    config = job(f"model={name}").config
    assert config.model.arguments["name"] == name
    side = natural_size(name) or 224
    with torch.device("meta"):
        assert sum(p.numel() for p in torchvision_model(name, 1000).parameters()) == LARGE[name]
        model = torchvision_model(**config.model.arguments, num_outputs=7)
        frozen = freeze(model, ["backbone"])
        outputs = model(torch.empty(2, 3, side, side))
        outputs, *auxiliary = (outputs,) if isinstance(outputs, torch.Tensor) else outputs
        assert outputs.shape == (2, 7)
        assert len(auxiliary) == (name == "inception_v3")
        outputs.sum().backward()
        head = [p for p in model.parameters() if p.grad is not None]
        assert {p.shape[0] for p in head} == {7}
        assert len(head) + len(frozen.parameters) == len(list(model.parameters()))
        torch.optim.AdamW(head).step()
        model.load_state_dict(model.state_dict())


def test_custom_data_trains(train) -> None:
    Path("own_data_of_conf.py").write_text(OWN_DATA)
    done = train("data=custom", "data._target_=own_data_of_conf.Own", "model=ann", *STEPS)
    assert done.code == 0, done.err
    assert [entry["class"] for entry in done.results["test"]["per_class"]] == ["0", "1", "2"]


@pytest.mark.parametrize(("name", "classes"), [("mnist", 10), ("mnist_below_3", 2)])
def test_mnist_trains(name: str, classes: int, train, mnist_root: str) -> None:
    done = train(f"data={name}", f"data.root={mnist_root}", "debug=fast", *STEPS)
    assert done.code == 0, done.err
    assert len(done.results["test"]["per_class"]) == classes


@pytest.mark.parametrize("name", [name.partition("/")[2] for name in OPTIONS if name.startswith("experiment/")])
def test_an_experiment_trains(name: str, train, mnist_root: str) -> None:
    words = [f"data.root={mnist_root}"]
    if "cifar" in name:  # whose files cannot be had here: photos of the same size stand in
        write_images(Path("photos"), dict.fromkeys(CLASSES, 20), size=32)
        words = ["data=image_folder", "data.root=photos"]
    if name == "water_potability":
        write_water(Path("water.csv"))
        words = ["data.path=water.csv", "data.features=[ph,hardness,solids,chlorine]"]
    if name != "overfit_one_batch":  # itself one
        words.append("debug=fast")
    done = train(f"experiment={name}", *words)
    assert done.code == 0, done.err
    if name in ("lr_grid", "random_search"):  # sweeps by themselves
        assert (
            len((done.folder / "leaderboard.csv").read_text().splitlines()) == {"lr_grid": 5, "random_search": 11}[name]
        )
    else:
        assert done.results["epochs"] == 2 or name == "overfit_one_batch"


def test_every_data_set_is_tried_here() -> None:
    tried = {"digits", "image_folder", "image_table", "custom", "huggingface", "torchvision", *DOWNLOADED, *TABLES}
    assert {name.partition("/")[2] for name in OPTIONS if name.startswith("data/")} == tried


@pytest.mark.parametrize("name", DOWNLOADED)
def test_data_that_cannot_be_had_is_one_sentence(name: str, train, monkeypatch) -> None:
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody listens there: as good as offline
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    Path("empty").mkdir()
    done = train(f"data={name}", "data.root=empty")
    assert done.code == 2
    (problem,) = [line for line in done.err.splitlines() if "error:" in line]
    assert str(Path("empty").absolute()) in problem
    assert "data.root=DIR" in problem
    assert "data=digits" in problem
    assert "Traceback" not in done.err
    assert done.folder is None


def write_cifar(root: Path, name: str, label: str, classes: list[str], monkeypatch) -> dict[str, np.ndarray]:
    """Ten files' worth of format in two: what torchvision reads, with the checksums of the real files lifted."""
    dataset = getattr(datasets, name)
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    written = {}
    for part, count in (("train", 5 * len(classes)), ("test", len(classes))):
        written[part] = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        entry = {"data": written[part], label: [i % len(classes) for i in range(count)]}
        (folder / part).write_bytes(pickle.dumps(entry))
        monkeypatch.setattr(dataset, f"{part}_list", [[part, None]])
    (folder / "names").write_bytes(pickle.dumps({"names": classes}))
    monkeypatch.setattr(dataset, "meta", {"filename": "names", "key": "names", "md5": None})
    return written


@pytest.mark.parametrize(
    ("option", "name", "label", "count"),
    [("cifar10", "CIFAR10", "labels", 10), ("cifar100", "CIFAR100", "fine_labels", 100)],
)
def test_cifar_is_read_as_its_files_say(option, name, label, count, train, monkeypatch) -> None:
    classes = [f"thing{i}" for i in range(count)]
    written = write_cifar(Path("cifar"), name, label, classes, monkeypatch)
    source = sources.torchvision_dataset("cifar", name)
    assert source.classes == tuple(classes)
    for part, rows in written.items():
        samples = source.splits[part]
        # The files hold the red plane, then the green, then the blue one, each row by row.
        assert torch.equal(samples.inputs, torch.from_numpy(rows.reshape(-1, 3, 32, 32)))
        assert samples.targets.tolist() == [i % count for i in range(len(rows))]
    done = train(f"data={option}", "data.root=cifar", "model=net", *STEPS)
    assert done.code == 0, done.err
    assert len(done.results["test"]["per_class"]) == count


def write_idx(path: Path, array: np.ndarray) -> None:
    """The format of the MNIST family: a magic number with the rank, the sizes, the bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))


def test_fashion_mnist_is_read_as_its_files_say(train) -> None:
    folder = Path("fashion/FashionMNIST/raw")
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)
    source = sources.torchvision_dataset("fashion", "FashionMNIST")
    assert torch.equal(source.splits["test"].inputs, torch.from_numpy(images[:, None]))
    assert source.splits["test"].targets.tolist() == [i % 10 for i in range(20)]
    done = train("data=fashion_mnist", "data.root=fashion", *STEPS)
    assert done.code == 0, done.err
    assert done.results["test"]["per_class"][0]["class"] == "T-shirt/top"
