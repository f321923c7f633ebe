"""`trainer explain` against scikit-learn, hand calculations and gradients."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import trainer
from helpers.runs import own_test
from helpers.words import table_words

pytestmark = pytest.mark.slow

pytest.importorskip("captum")
DIGITS = ("epochs=3",)
LINEAR = ("data=diabetes", "model=mlp", "model.hidden=[]", "epochs=3", "precision=float64")


@pytest.fixture
def copied() -> Callable[[Path], Path]:
    return lambda run: Path(shutil.copytree(run, "run"))


def read_csv(path: str) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def write_digits(count: int) -> None:
    raw = torch.arange(count * 64).mul(7919).remainder(256).view(count, 8, 8).byte()
    for number, image in enumerate(raw):
        Image.fromarray(image.numpy()).save(f"{number}.png")


def test_columns_are_as_important_as_in_scikit_learn(trained, copied, table: Path, verb) -> None:
    inspection = pytest.importorskip("sklearn.inspection")
    run = copied(trained(*table_words(table)))
    done = verb("explain", run, "--repeats", "4", "--seed", "7")
    assert done.code == 0, done.err
    content = json.loads((run / "explain" / "columns.json").read_text())
    model, (raw, _, targets) = trainer.load(run), own_test(run)

    class Estimator:
        def fit(self) -> None:
            pass

    def accuracy(_: object, rows: np.ndarray, classes: np.ndarray) -> float:
        return float(np.mean(model.probabilities(model.outputs(torch.tensor(rows))).argmax(1).numpy() == classes))

    expected = inspection.permutation_importance(
        Estimator(), raw.numpy(), targets.numpy().astype(int).reshape(-1), scoring=accuracy, n_repeats=4, random_state=7
    )
    assert content["part"] == "test"
    assert content["own_data"]
    by_name = {column["name"]: column for column in content["columns"]}
    means = [by_name[name]["mean"] for name in model.columns]
    assert means == pytest.approx(expected.importances_mean)
    assert [by_name[name]["std"] for name in model.columns] == pytest.approx(expected.importances_std)
    assert any(means)
    assert [column["mean"] for column in content["columns"]] == sorted(means, reverse=True)
    assert (run / "explain" / "columns.png").exists()
    assert f"{len(raw)} samples" in done.out
    assert verb("report", run).code == 0
    page = (run / "report.html").read_text()
    assert "What decided" in page
    assert all(f">{name}<" in page for name in model.columns)


def test_parts_of_a_linear_model_are_its_products(trained, copied, verb) -> None:
    """They are weight times scaled number, in the unit of the target."""
    run = copied(trained(*LINEAR))
    model, (raw, _, _) = trainer.load(run), own_test(run)
    header = ",".join(model.columns)
    Path("rows.csv").write_text("\n".join([header, *(",".join(map(repr, row)) for row in raw[:3].tolist())]) + "\n")
    done = verb("explain", run, "rows.csv", "--out", "elsewhere")
    assert done.code == 0, done.err
    rows = read_csv("elsewhere/rows.csv")
    parts = torch.tensor([[float(row[f"part_{name}"]) for name in model.columns] for row in rows])
    (weight,) = (value for name, value in model.model.state_dict().items() if name.endswith("weight"))
    expected = model.prepare(raw[:3], torch.float64) * weight * model.task.std
    assert torch.allclose(parts, expected.float(), rtol=1e-4, atol=1e-4)
    assert [float(row["value"]) for row in rows] == pytest.approx(model.predict(raw[:3].numpy()).tolist())


def test_parts_of_categories_are_added_up(trained, copied, table: Path, verb) -> None:
    """All parts of a row add up to its score less that of a row of means."""
    run = copied(trained(*table_words(table)))
    model = trainer.load(run)
    done = verb("explain", run, table)
    assert done.code == 0, done.err
    row = read_csv("run/explain/rows.csv")[0]
    raw = model.raw([dict(zip(*list(csv.reader(table.open(), delimiter=";"))[:2], strict=True))])
    inputs = model.prepare(raw)
    with torch.no_grad():
        change = model.model(inputs)[0] - model.model(torch.zeros_like(inputs))[0]
    score = change[model.classes.index(row["class"])] if len(change) > 1 else change[0]
    sign = 1 if len(change) > 1 or row["class"] == model.classes[1] else -1
    assert sum(float(row[f"part_{name}"]) for name in model.columns) == pytest.approx(sign * score.item(), rel=0.02)


def test_grad_cam_is_that_of_the_paper(trained) -> None:
    """The maps of the last convolution, weighted by the mean gradient of the class, and what is negative left out."""
    from trainer.inference.attribution import Attributor

    model = trainer.load(trained("model=cnn", *DIGITS))
    raw, _, _ = own_test(model.checkpoint.folder)
    last = [module for module in model.model.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    maps = []
    hook = last.register_forward_hook(lambda module, inputs, output: maps.append(output))
    inputs = model.prepare(raw[:4])
    scores = model.model(inputs)
    hook.remove()
    classes = scores.argmax(1)
    (gradient,) = torch.autograd.grad(scores.gather(1, classes[:, None]).sum(), maps)
    cam = (maps[0] * gradient.mean((2, 3), keepdim=True)).sum(1, keepdim=True).relu()
    expected = F.interpolate(cam, inputs.shape[-2:], mode="bilinear")[:, 0]
    attributor = Attributor(model)
    assert attributor.method == "grad_cam"
    assert torch.allclose(attributor.pixels(raw[:4], classes), expected.detach(), atol=1e-6)
    assert expected.detach().abs().max() > 1e-3


def test_pictures_and_mistakes(trained, copied, verb) -> None:
    run = copied(trained("model=cnn", *DIGITS))
    write_digits(2)
    Path("broken.png").write_text("text")
    done = verb("explain", run, "0.png", "broken.png", "1.png", "--target", "3")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "broken.png: " in done.err
    rows = read_csv("run/explain/images.csv")
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    chance = trainer.load(run).predict("1.png")[0, 3].item()
    assert (rows[2]["class"], float(rows[2]["probability"])) == ("3", pytest.approx(chance))
    assert Image.open(run / "explain" / rows[2]["picture"]).size[0] > 500
    done = verb("explain", run)
    assert done.code == 0, done.err
    mistakes = json.loads((run / "explain" / "mistakes.json").read_text())["mistakes"]
    stored = json.loads((run / "details.json").read_text())["mistakes"]
    assert [(m["predicted"], m["true"], m["chance"]) for m in mistakes] == [
        (m["predicted"], m["true"], pytest.approx(m["chance"], abs=1e-5)) for m in stored
    ]
    assert verb("report", run).code == 0
    assert (run / "report.html").read_text().count("<img") == len(mistakes) * 2


def test_a_model_without_convolution(trained, copied, verb) -> None:
    run = copied(trained("model=mlp", *DIGITS))
    write_digits(1)
    done = verb("explain", run, "0.png")
    assert done.code == 0, done.err
    assert "method     integrated_gradients: the model has no convolution to look at" in done.out
    assert read_csv("run/explain/images.csv")[0]["method"] == "integrated_gradients"
    done = verb("explain", run, "0.png", "--method", "grad_cam")
    assert done.code == 2
    assert "the model has no convolution to look at. Use --method integrated_gradients." in done.err


def test_what_cannot_be_explained_is_one_sentence(trained, copied, verb, monkeypatch: pytest.MonkeyPatch) -> None:
    run = copied(trained("model=mlp", *DIGITS))
    write_digits(1)
    for words, sentence in [
        (("--target", "3"), "--target 3: it has no effect without inputs"),
        (("0.png", "data.root=x"), "data.root=x: it has no effect with inputs"),
        (("0.png", "--part", "test"), "--part test: it has no effect with inputs"),
        (("0.png", "--target", "33"), "--target 33: the model does not predict it. Did you mean 3?"),
        (("0.png", "--out", "no/such/folder"), "no/such/folder: "),
    ]:
        done = verb("explain", run, *words)
        assert (done.code, done.err.count("\n")) == (2, 1), words
        assert sentence in done.err
    monkeypatch.setitem(sys.modules, "captum", None)
    done = verb("explain", run, "0.png")
    assert done.code == 2
    assert done.err == (
        "trainer: error: trainer explain: captum is not installed: pip install 'trainer-cli[explain]'\n"
    )
    assert not (run / "explain").exists()


def test_nothing_is_written_through_a_link(trained, copied, verb, table: Path) -> None:
    run = copied(trained(*table_words(table)))
    Path("outside").mkdir()
    (run / "explain").symlink_to(Path("outside").resolve())
    assert verb("explain", run).code == 2
    assert not list(Path("outside").iterdir())
