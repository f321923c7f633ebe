"""`trainer.load`: model, preprocessing and classes from one file, with the same outputs as the run's own test."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_diabetes

import trainer
from helpers.runs import REPOSITORY, own_test
from helpers.words import photo_words, table_words
from trainer.errors import UserError
from trainer.records.find import checkpoint_file
from trainer.training import checkpoint

DIGITS = ("epochs=3",)


def test_importing_the_package_imports_no_torch() -> None:
    words = "import sys, trainer; assert 'load' in trainer.__all__; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", words], check=True, env={"PYTHONPATH": str(REPOSITORY)})

    assert not hasattr(trainer, "lode")


@pytest.mark.slow
def test_a_run_and_its_checkpoints_and_a_lone_file(trained: Callable[..., Path]) -> None:
    run = trained(*DIGITS)
    raw, outputs, _ = own_test(run)
    Path("alone").mkdir()
    shutil.copy(run / "checkpoints" / "best.pt", "alone")
    for name in (run, str(run), run / "checkpoints" / "best.pt", "alone", "alone/best.pt"):
        model = trainer.load(name, device="cpu")
        assert not model.model.training
        assert model.classes == tuple("0123456789")
        assert torch.equal(model.outputs(raw), outputs)
        assert torch.equal(model.predict(raw), outputs.softmax(1))
    # Of last.pt it is the last weights, not the best.
    last = checkpoint.load(run / "checkpoints" / "last.pt")["run"]["model"]
    own = trainer.load(run / "checkpoints" / "last.pt", device="cpu").model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in last.items())


def test_images_in_every_form_give_the_same(trained: Callable[..., Path]) -> None:
    model = trainer.load(trained(*DIGITS), device="cpu")
    raw = torch.from_numpy(np.random.default_rng(0).integers(0, 241, (6, 1, 8, 8), dtype=np.uint8))
    expected = model.predict(raw)
    opened = [Image.fromarray(image[0].numpy()) for image in raw]
    for number, image in enumerate(opened):
        image.save(f"{number}.png")
    for form in (
        raw.numpy(),
        list(raw),
        opened,
        [image.convert("RGB") for image in opened],
        [f"{number}.png" for number in range(6)],
        [Path(f"{number}.png") for number in range(6)],
        raw[:, 0].numpy()[:, None],
        [image[0].numpy() for image in raw],
    ):
        assert torch.equal(model.predict(form), expected)
    assert torch.allclose(model.predict(raw / 255), expected, atol=1e-6)
    assert torch.allclose(model.predict(opened[2]), expected[2:3], atol=1e-6)
    assert torch.allclose(model.predict(raw[2]), expected[2:3], atol=1e-6)
    assert model.labels(raw) == [model.classes[i] for i in expected.argmax(1)]
    assert model.predict(Image.new("RGB", (40, 30))).shape == (1, 10)  # brought to the size of the data


def test_photographs_come_out_as_in_the_runs_own_test(trained: Callable[..., Path], photos: Path) -> None:
    run = trained(*photo_words(photos))
    _, outputs, targets = own_test(run)
    files = sorted((photos / "test").rglob("*.*"))
    model = trainer.load(run / "checkpoints" / "best.pt", device="cpu")
    assert torch.equal(model.predict(files), outputs.softmax(1))
    assert model.classes == ("ant", "bee", "cow")
    assert [model.classes.index(file.parent.name) for file in files] == targets.tolist()


def test_rows_come_out_as_in_the_runs_own_test(trained: Callable[..., Path], table: Path) -> None:
    run = trained(*table_words(table))
    raw, outputs, _ = own_test(run)
    model = trainer.load(run, device="cpu")
    assert model.columns == ("height", "colour", "weight")
    assert torch.equal(model.outputs(raw), outputs)
    positive = outputs.sigmoid()
    assert torch.equal(model.predict(raw), torch.cat([1 - positive, positive], dim=1))
    # The file's own rows, by name and by position; a text instead of a code, and a value that is not there.
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    everything = model.predict(rows)
    lists = [[row["height"], row["colour"], row["weight"]] for row in rows]
    assert torch.equal(model.predict(lists), everything)
    weights = {(float(row["height"]), row["weight"]): found for row, found in zip(rows, everything, strict=True)}
    for sample, expected in zip(raw.tolist(), model.predict(raw), strict=True):
        shown = "" if sample[2] != sample[2] else f"{sample[2]:.3f}"
        assert torch.allclose(weights[(sample[0], shown)], expected, atol=1e-6)
    assert model.predict({"height": 170.0, "colour": "never seen", "weight": None, "more": 1}).shape == (1, 2)


def test_a_regression_gives_values_in_its_own_unit(trained: Callable[..., Path]) -> None:
    run = trained("data=diabetes", "model=mlp", "epochs=40", "optim.lr=1e-2")
    raw, outputs, targets = own_test(run)
    model = trainer.load(run, device="cpu")
    assert model.classes == ()
    mean, std = model.task.mean, model.task.std
    assert torch.equal(model.predict(raw), outputs[:, 0].double() * std + mean)
    errors = model.predict(raw) - targets
    report = checkpoint_file(run).parent.parent / "results.json"
    assert f'"rmse": {errors.square().mean().sqrt().item()}' in report.read_text()
    unit = load_diabetes(scaled=False)
    found = model.predict(unit.data)
    assert np.corrcoef(found, unit.target)[0, 1] > 0.5


@pytest.mark.parametrize("kind", ["log_probabilities", "probabilities"])
def test_outputs_of_other_kinds_become_probabilities(trained: Callable[..., Path], kind: str) -> None:
    end = {"log_probabilities": "LogSoftmax", "probabilities": "Softmax"}[kind]
    words = f"model.layers=[Flatten,{{Linear: {{in_features: 64, out_features: 10}}}},{{{end}: {{dim: 1}}}}]"
    model = trainer.load(trained("model=sequential", words, f"model.output={kind}", "epochs=1"), device="cpu")
    raw = torch.randint(0, 240, (5, 1, 8, 8), dtype=torch.uint8)
    outputs = model.outputs(raw)
    assert torch.equal(model.predict(raw), outputs.exp() if kind == "log_probabilities" else outputs)
    assert torch.allclose(model.predict(raw).sum(1), torch.ones(5))


@pytest.mark.slow
def test_a_models_own_size_and_normalisation_come_along(fine_tuned: Path, photos: Path) -> None:
    """A model that starts from weights of others wants the images as these had them."""
    run = fine_tuned
    _, outputs, _ = own_test(run)
    model = trainer.load(run, device="cpu")
    files = sorted((photos / "test").rglob("*.*"))
    assert torch.equal(model.predict(files), outputs.softmax(1))
    assert model.checkpoint.decode_spec.size == 32


@pytest.mark.slow
def test_images_that_are_higher_than_wide(trained: Callable[..., Path], photos: Path) -> None:
    """A model with its own height and width; image files are squashed to a square before."""
    model = ("model=torchvision", "model.name=shufflenet_v2_x0_5", "model.weights=none", "model.image_size=[48,32]")
    data = ("data=image_folder", f"data.root={photos}", "data.cache=false", "batch_size=8", "epochs=1")
    run = trained(*model, *data)
    _, outputs, _ = own_test(run)
    files = sorted((photos / "test").rglob("*.*"))
    assert torch.allclose(trainer.load(run, device="cpu").predict(files), outputs.softmax(1))


def test_a_trusted_run_may_read_environment_variables(
    trained: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIVATION", "tanh")
    run = trained("model=mlp", "model.activation=${oc.env:ACTIVATION}", "epochs=1")
    with pytest.raises(UserError, match="add --trust"):
        trainer.load(run)
    raw = torch.randint(0, 240, (5, 1, 8, 8), dtype=torch.uint8)
    same = trainer.load(trained("model=mlp", "model.activation=tanh", "epochs=1"))
    assert torch.equal(trainer.load(run, trust=True).outputs(raw), same.outputs(raw))
    monkeypatch.delenv("ACTIVATION")
    with pytest.raises(UserError, match="ACTIVATION"):
        trainer.load(run, trust=True)


def test_opening_a_model_draws_nothing(trained: Callable[..., Path]) -> None:
    run = trained(*DIGITS)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trainer.load(run)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("samples", "sentence"),
    [
        (np.zeros((2, 3, 3, 8, 8), np.uint8), "image 0: an image of shape"),
        (np.full((1, 1, 8, 8), 200.0), "image 0: an image of floats from 200 to 200; expected 0 to 1, or uint8"),
        (np.full((1, 1, 8, 8), np.nan), "finite"),
        (np.zeros((1, 1, 9, 8)), r"an image of floats of shape \[1, 9, 8\]; the model takes \[1, 8, 8\]"),
        (np.zeros((1, 5, 8, 8), np.uint8), "expected 1 or 3 channels, which come first"),
        ("nowhere.png", "nowhere.png: not a readable image"),
        ([{"a": 1}], "image 0: dict is not an image"),
        ([], "there are no images"),
    ],
)
def test_what_is_no_image_is_refused(trained: Callable[..., Path], samples, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        trainer.load(trained(*DIGITS)).predict(samples)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ({"height": 1.0, "colour": "red"}, "row 0: the model needs the column weight, which is missing."),
        ({"heihgt": 1.0, "colour": "red", "weight": 1}, "height, which is missing \\(Did you mean heihgt"),
        ([[1.0, "red", 2.0], [1.0, "red"]], "row 1: 2 values; the model has 3 columns: height, colour, weight"),
        ([["tall", "red", 2.0]], "row 0: column height: 'tall' is not a finite number"),
        ([[float("inf"), "red", 2.0]], "column height: inf is not a finite number"),
        ([], "there are no rows"),
        (None, "NoneType is not a row; expected a mapping"),
        ([{"height": 1, "colour": "red", "weight": 2}, 7], "row 1: int is not a row"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused(trained: Callable[..., Path], table: Path, rows, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        trainer.load(trained(*table_words(table))).predict(rows)
