"""`trainer.train(model=net, data=(X, y))`: the same run as from files and names, and a sentence for what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

import trainer
from helpers.datasets import CLASSES, write_images
from helpers.runs import exit_code
from trainer.data.objects import factory_of
from trainer.data.streams import seeded_streams
from trainer.models.mlp import MLP
from trainer.seeds import derive

DIGITS = load_digits()
X, Y = DIGITS.images[:300], DIGITS.target[:300]
OPTIONS: dict[str, Any] = {"epochs": 2, "threads": 1, "plots": False, "quiet": True}


def weights(run: trainer.TrainedRun) -> dict[str, torch.Tensor]:
    return run.model.state_dict()


def assert_same(one: trainer.TrainedRun, other: trainer.TrainedRun) -> None:
    assert one.results["test"] == other.results["test"]
    assert one.metrics["valid_loss"] == other.metrics["valid_loss"]
    assert all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


def refusal(**keywords: Any) -> str:
    before = list(Path().glob("outputs/*/*"))
    with pytest.raises(trainer.UserError) as error:
        trainer.train(**OPTIONS | keywords)
    assert list(Path().glob("outputs/*/*")) == before
    return str(error.value)


class Perceptron(torch.nn.Module):
    def __init__(self, outputs: int = 10) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU())
        self.head = torch.nn.Linear(16, outputs)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(inputs))


def test_arrays_are_trained_on_as_from_a_file() -> None:
    np.savez("digits.npz", x=X, y=Y)
    from_file = trainer.train("data=arrays", "data.path=digits.npz", "model=mlp", **OPTIONS)
    assert_same(trainer.train(model="mlp", data=(X, Y), **OPTIONS), from_file)
    assert_same(trainer.train(model="mlp", data=(torch.from_numpy(X), Y.tolist()), **OPTIONS), from_file)


def test_images_are_trained_on_as_from_a_folder() -> None:
    write_images(Path("photos"), dict.fromkeys(CLASSES, 12))
    files = sorted(Path("photos").rglob("*.png"))
    pixels = np.stack([np.array(Image.open(file)) for file in files])
    names = [file.parent.name for file in files]
    from_folder = trainer.train("data=image_folder", "data.root=photos", model="mlp", **OPTIONS)
    assert_same(trainer.train(model="mlp", data=(pixels, names), **OPTIONS), from_folder)


def test_a_model_is_trained_as_the_one_of_the_same_weights_by_name() -> None:
    with seeded_streams(derive(0, "init")):
        net = MLP(64, 10)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    run = trainer.train(model=net, data=(X, Y), **OPTIONS)
    assert_same(run, trainer.train(model="mlp", data=(X, Y), **OPTIONS))
    assert_same(run, trainer.train(model=MLP, data=(X, Y), **OPTIONS))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(p.grad is not None for p in net.parameters())
    assert net.training
    assert run.folder.name.endswith("-arrays-MLP")


def test_a_run_on_objects_is_resumed_and_loaded_with_them() -> None:
    net, data = Perceptron(), (X, Y)
    run = trainer.train(model=net, data=data, **OPTIONS)
    advice = f"trainer.train(resume='{run.folder.relative_to(Path.cwd())}', epochs=4, model=..., data=...)"
    assert f"next       {advice}\n" in (run.folder / "train.log").read_text()
    whole = trainer.train(model=net, data=data, **OPTIONS | {"epochs": 4})
    more: dict[str, Any] = {"resume": run.folder, "epochs": 4, "quiet": True}
    assert exit_code("train", f"resume={run.folder}", "epochs=4") == 2
    for objects, key in (({"model": net}, "data"), ({"data": data}, "model")):
        with pytest.raises(
            trainer.UserError, match=rf"Pass it again in Python: trainer.train\(resume=RUN, {key}=...\)"
        ):
            trainer.train(**more, **objects)
    with pytest.raises(trainer.UserError, match="data: the data is not what this run was trained on"):
        trainer.train(**more, model=net, data=(X[::-1], Y))
    resumed = trainer.train(**more, model=net, data=data)
    assert resumed.folder == run.folder
    assert_same(resumed, whole)
    with pytest.raises(trainer.UserError, match=r"trainer.load\(RUN, model=...\)"):
        trainer.load(run.folder)
    loaded = trainer.load(run.folder, model=net)
    assert torch.equal(loaded.predict(X[:9]), resumed.predict(X[:9]))
    with pytest.raises(trainer.UserError, match="its weights are not those of the model"):
        trainer.load(run.folder, model=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)))


def test_a_class_of_the_calling_program_is_built_with_its_arguments() -> None:
    class Wide(Perceptron):
        pass

    data = {"train": (X, Y % 3), "test": (X[:50], Y[:50] % 3)}
    run = trainer.train("model.outputs=3", model=Wide, data=data, **OPTIONS)
    assert run.results["test"]["per_class"][0]["total"] == int((Y[:50] % 3 == 0).sum())
    assert type(run.model).__name__ == "Wide"


def test_a_data_set_is_trained_on_as_under_its_name() -> None:
    inputs = torch.from_numpy(X).flatten(1).float()
    one = trainer.train(model="mlp", data=TensorDataset(inputs, torch.from_numpy(Y)), **OPTIONS)
    Path("own_digits.py").write_text(
        "import sys, torch\nfrom sklearn.datasets import load_digits\n"
        "class Digits(torch.utils.data.TensorDataset):\n    def __init__(self):\n        d = load_digits()\n"
        "        super().__init__(torch.from_numpy(d.data[:300]).float(), torch.from_numpy(d.target[:300]))\n"
    )
    assert_same(one, trainer.train("data=custom", "data._target_=own_digits.Digits", "model=mlp", **OPTIONS))


def test_a_data_frame_is_read_like_the_file_that_it_is_written_to() -> None:
    pandas = pytest.importorskip("pandas")
    draw = np.random.default_rng(0)
    frame = pandas.DataFrame({"a": draw.normal(size=90), "b": draw.integers(0, 9, 90), 2024: draw.random(90) > 0.5})
    frame["colour"] = pandas.Categorical(draw.choice(["red", "green"], 90))
    frame.loc[3, "a"] = np.nan
    kind = pandas.Series(np.where(frame["b"] > 4, "big", "small"), name="kind")
    frame.assign(kind=kind).to_csv("table.csv", index=False)
    words = ("model=mlp", "data.missing=median")
    run = trainer.train(*words, data=(frame, kind), **OPTIONS)
    assert_same(run, trainer.train("data=csv", "data.path=table.csv", "data.target=kind", *words, **OPTIONS))
    assert run.predictor.columns == ("a", "b", "2024", "colour")
    assert torch.equal(run.predict(frame), run.predict(frame.to_dict("records")))
    split = {"train": (frame[:60], kind[:60]), "test": (frame[60:], kind[60:])}
    tested = trainer.train(*words, data=split, **OPTIONS).results["test"]
    assert sum(entry["total"] for entry in tested["per_class"]) == 30
    dropped = trainer.train("model=mlp", "data.missing=drop", data=(frame, kind), **OPTIONS)
    rows = [int(line.split(",")[0]) for line in (dropped.folder / "split.csv").read_text().splitlines()[1:]]
    assert sorted(rows) == [row for row in range(90) if row != 3]


LABELS = np.stack([Y % 2 == 0, Y > 4, Y % 3 == 0], 1).astype(np.int64)
NUMBERS = np.stack([Y * 2.5 - 3, Y**2.0], 1)
SEVERAL = [("multilabel", LABELS), ("regression", NUMBERS)]


@pytest.mark.parametrize(("task", "targets"), SEVERAL)
def test_several_targets_are_trained_on_as_from_a_file(task: str, targets: np.ndarray) -> None:
    words = ("model=mlp", f"data.task={task}")
    np.savez("several.npz", x=X, y=targets)
    run = trainer.train(*words, data=(X, targets), **OPTIONS)
    assert_same(run, trainer.train(*words, "data=arrays", "data.path=several.npz", **OPTIONS))


@pytest.mark.parametrize(("task", "targets"), SEVERAL)
def test_several_targets_of_a_data_frame_are_read_like_the_file(task: str, targets: np.ndarray) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.random.default_rng(0).normal(size=(300, 3)), columns=list("abc"))
    columns = pandas.DataFrame(targets, columns=["p", "q", "r"][: targets.shape[1]])
    pandas.concat([frame, columns], axis=1).to_csv("several.csv", index=False)
    names = f"data.target=[{','.join(columns)}]"
    run = trainer.train(model="mlp", data=(frame, columns), **OPTIONS)
    assert_same(run, trainer.train("data=csv", "data.path=several.csv", names, "model=mlp", **OPTIONS))
    split = {"train": (frame[:200], targets[:200]), "test": (frame[200:], targets[200:])}
    source = factory_of(split)[1](task=task)
    assert torch.equal(source.splits["test"].targets, torch.from_numpy(targets[200:]))
    assert (source.targets or source.classes) == ("y0", "y1", "y2")[: targets.shape[1]]


@pytest.mark.parametrize(("task", "targets"), SEVERAL)
def test_several_targets_of_a_data_set_are_labels_or_numbers(task: str, targets: np.ndarray) -> None:
    run = trainer.train(model="mlp", data=items(targets), **OPTIONS)
    assert (run.results["task"], run.predict(X[:4].reshape(4, 64)).shape) == (task, (4, targets.shape[1]))
    source = factory_of({"train": items(targets), "test": items(targets[:9])})[1]()
    assert torch.equal(source.splits["test"].targets, torch.from_numpy(targets[:9]))


def items(targets: Any, **attributes: Any) -> TensorDataset:
    """Return a data set with the first digits as inputs."""
    targets = torch.as_tensor(targets)
    dataset = TensorDataset(torch.from_numpy(X[: len(targets)]).flatten(1).float(), targets)
    vars(dataset).update(attributes)
    return dataset


def test_the_task_of_a_data_set_may_be_its_attribute() -> None:
    shares, one_hot = [[0.2, 0.3], [0.5, 0.1]], [[0, 1], [1, 0]]
    source = factory_of(items(shares, task="regression", classes=["a", "b"]))[1]()
    assert (source.task, source.targets, source.splits["train"].targets.dtype) == (
        "regression", ("a", "b"), torch.float64,
    )  # fmt: skip
    assert factory_of(items(one_hot))[1]().task == "classification"
    assert factory_of(items(one_hot, task="multilabel"))[1]().splits["train"].targets.tolist() == one_hot


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (items([[0.2, 0.3], [0.5, 0.1]]), "the target of item 0 is [0.20"),
        (items([[0, 1], [2, 1]], task="multilabel"), "the target of item 1 is [2, 1]; labels are 0 and 1"),
        (items([[0, 1], [1, 1]], classes=["a"]), "1 classes, and its targets have 2 labels"),
        (
            {"train": items(NUMBERS), "valid": items(NUMBERS[:, :1].repeat(3, 1))},
            "targets of the valid split have 3 numbers, those of train 2",
        ),
        (
            {"train": items(NUMBERS[:, 0]), "valid": items(NUMBERS)},
            "targets of the valid split have 2 numbers, those of train 1",
        ),
        (items([0.5, 1.5], task="classification"), "targets are float, and the task is classification"),
    ],
)
def test_targets_of_a_data_set_that_do_not_fit_are_one_sentence(data: Any, sentence: str) -> None:
    with pytest.raises(trainer.UserError) as error:
        factory_of(data)[1]()
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"model": 3}, "model: a int; expected a torch.nn.Module, its class, or the name of a model"),
        ({"data": 3}, "data: int; expected (X, y), a torch Dataset, or a dict"),
        ({"data": X}, "data: ndarray; expected (X, y)"),
        ({"data": {"trian": (X, Y)}}, "Did you mean train?"),
        ({"data": (X, Y[:9])}, "X is float64 [300, 8, 8] and y int64 [9]; expected as many targets as samples"),
        ({"data": ([[1, 2], [3]], [0, 1])}, "data.x: X is a list, not an array"),
        ({"data": (X, np.array([object()] * 300))}, "y holds object; expected numbers, booleans or texts"),
        ({"model": Perceptron(3), "data": (X, Y)}, "it returns (2, 3) for two samples of [1, 8, 8]"),
        ({"model": Perceptron(2), "data": (X, Y % 2)}, "the task needs (2, 1). Use loss=cross_entropy."),
        ({"model": Perceptron, "data": (X, Y), "model.hidden": 3}, "model.hidden"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(keywords: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(**keywords)
