"""`trainer evaluate`: the run's own test reproduced exactly, other data preprocessed as in training, ensembles."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

import trainer
from helpers.datasets import CLASSES, write_images, write_table
from helpers.runs import own_test
from helpers.words import photo_words, table_words

DIGITS = ("epochs=3",)
WEIGHED = ("loss.weight=[9,1,1,1,1,1,1,1,1,1]",)
DIABETES = ("data=diabetes", "model=mlp", "epochs=40", "optim.lr=1e-2")


def copied(run: Path, name: str = "run") -> Path:
    """A copy that a test may write to."""
    shutil.copytree(run, name)
    return Path(name)


def written(run: Path, number: int = 1) -> dict:
    return json.loads((run / f"evaluation-{number}.json").read_text())


def own(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())["test"]


@pytest.mark.parametrize(
    "words",
    [
        DIGITS,
        (*DIGITS, "loss.weight=balanced", "batch_size=20", "ema.decay=0.9", "seed=3"),
        ("model=mlp", "epochs=2", "data.relabel={low: [0, 1, 2], high: rest}", "debug.batches=3"),
        ("data=breast_cancer", "model=perceptron", "model.output=probabilities", "epochs=3", "monitor=valid_auroc"),
        ("data=wine", "model=mlp", "epochs=3", "precision=float64", "data.folds=3", "data.fold=1"),
        DIABETES,
        "photos",
        "table",
        "frozen",
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.slow
def test_it_is_the_runs_own_test(
    trained: Callable[..., Path], fine_tuned: Path, verb, photos: Path, table: Path, words
) -> None:
    words = {"photos": photo_words(photos), "table": table_words(table)}.get(words, words)
    run = copied(fine_tuned if words == "frozen" else trained(*words))
    done = verb("evaluate", run)
    assert done.code == 0, done.err
    found = written(run)
    assert found["test"] == own(run)
    assert (found["part"], found["own_data"]) == ("test", True)
    assert done.out.splitlines()[-1] == "written    run/evaluation-1.json"
    classes = "per_class" in found["test"]
    assert (run / "evaluation-1.png").exists() == classes
    assert verb("evaluate", run / "checkpoints" / "best.pt").code == 0
    assert written(run, 2) == found


def test_a_lone_checkpoint(trained: Callable[..., Path], verb) -> None:
    run = trained(*DIGITS, "loss.weight=balanced", "batch_size=20", "ema.decay=0.9", "seed=3")
    Path("alone").mkdir()
    shutil.copy(run / "checkpoints" / "best.pt", "alone")
    assert verb("evaluate", "alone").code == 0
    assert written(Path("alone"))["test"] == own(run)


@pytest.mark.slow
def test_calibration_figures(trained: Callable[..., Path], verb) -> None:
    """Against torchmetrics and scikit-learn."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    run = copied(trained(*DIGITS))
    assert verb("evaluate", run).code == 0
    _, outputs, targets = own_test(run)
    found = written(run)["calibration"]["uncalibrated"]
    oracle = multiclass_calibration_error(outputs.softmax(1), targets, 10, n_bins=15, norm="l1")
    assert found["ece"] == pytest.approx(oracle.item(), abs=1e-6)
    assert found["nll"] == pytest.approx(log_loss(targets, outputs.double().softmax(1)), abs=1e-6)
    assert sum(each["count"] for each in found["bins"]) == len(targets)
    assert written(run)["calibration"]["calibrated"] is None


@pytest.mark.slow
def test_calibrating(trained: Callable[..., Path], verb) -> None:
    run = copied(trained(*DIGITS))
    assert verb("evaluate", run, "--part", "valid").code == 0
    done = verb("evaluate", run, "--calibrate")
    assert done.code == 0, done.err
    stored = json.loads((run / "calibration.json").read_text())
    valid, found = written(run, 1), written(run, 2)
    assert found["test"] == own(run)  # accuracy and all else stay
    assert stored["before"]["nll"] == pytest.approx(valid["calibration"]["uncalibrated"]["nll"], abs=1e-6)
    assert stored["after"]["nll"] < stored["before"]["nll"]
    assert stored["samples"] == valid["samples"] == 288
    assert found["calibration"]["calibrated"]["temperature"] == stored["temperature"]
    assert f"at temperature {stored['temperature']:.4f}" in done.out
    # No other temperature is better on the validation split.
    raw, outputs, targets = own_test(run)
    plain, warm = trainer.load(run), trainer.load(run, calibrated=True)
    assert warm.temperature == stored["temperature"]
    assert torch.allclose(warm.predict(raw), (outputs.double() / warm.temperature).softmax(1).float(), atol=1e-7)
    assert torch.equal(warm.predict(raw).argmax(1), plain.predict(raw).argmax(1))
    expected = log_loss(targets, (outputs.double() / warm.temperature).softmax(1))
    assert found["calibration"]["calibrated"]["nll"] == pytest.approx(expected, abs=1e-9)
    # --calibrated uses what is stored.
    assert verb("evaluate", run, "--calibrated").code == 0
    assert written(run, 3)["calibration"] == found["calibration"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"temperature": float("nan")}, "not readable as a calibration"),
        ({"temperature": 1e9}, "expected 0.01 to 100"),
        ({"temperature": "1.0"}, "not readable as a calibration"),
        ({"format": 2}, "its format 2 is newer than 1"),
        ({"weights": "0" * 32}, "it belongs to other weights"),
        ("[" * 50_000, "not readable as a calibration"),
        ("x" * 100_000, "not readable as a calibration"),
    ],
)
@pytest.mark.slow
def test_a_calibration_that_cannot_be_used_is_refused(trained: Callable[..., Path], verb, change, sentence) -> None:
    run = copied(trained(*DIGITS))
    content = {"format": 1, "temperature": 2.0, "weights": "", "samples": 3, "before": {}, "after": {}}
    text = change if isinstance(change, str) else json.dumps(content | change)
    (run / "calibration.json").write_text(text)
    done = verb("predict", run, "x.png", "--calibrated")
    assert done.code == 2
    assert sentence in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.slow
def test_other_photographs(trained: Callable[..., Path], verb, photos: Path) -> None:
    """Prepared as the run's own were; all of them where there is no test part; classes by name, not by order."""
    run = copied(trained(*photo_words(photos)))
    write_images(Path("other/train"), dict.fromkeys(CLASSES, 5), size=(20, 40), seed=9)
    done = verb("evaluate", run, "data.root=other/train")
    assert done.code == 0, done.err
    found = written(run)
    assert (found["samples"], found["part"], found["own_data"]) == (15, "all", False)
    assert "of other data than the run was trained on" in done.out
    model = trainer.load(run)
    files = sorted(Path("other").rglob("*.*"))
    chances, labels = model.predict(files), [model.classes.index(file.parent.name) for file in files]
    assert found["test"]["accuracy"] == accuracy_score(labels, chances.argmax(1))
    assert found["test"]["loss"] == pytest.approx(-chances[range(15), labels].log().mean().item(), abs=1e-6)
    assert verb("evaluate", run, "data.root=other/train", "data.classes=[cow,bee,ant]").code == 0
    assert written(run, 2)["test"]["accuracy"] == found["test"]["accuracy"]
    assert [row["class"] for row in written(run, 2)["test"]["per_class"]] == list(CLASSES)
    # The same photographs in another place are the run's own.
    shutil.copytree(photos, "moved")
    assert verb("evaluate", run, "data.root=moved").code == 0
    assert written(run, 3)["own_data"]
    assert written(run, 3)["test"] == own(run)


@pytest.mark.slow
def test_another_table(trained: Callable[..., Path], verb, table: Path) -> None:
    """One class only, one colour less, a constant column: what training would refuse or code otherwise."""
    run = copied(trained(*table_words(table)))
    with open(write_table(Path("more.csv"), 60, seed=4), newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter=";") if row["colour"] != "blue" and row["kind"] == "big"]
    with open("other.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["kind", "colour", "height", "weight"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    done = verb("evaluate", run, "data.path=other.csv")
    assert done.code == 0, done.err
    found, model = written(run), trainer.load(run)
    assert found["samples"] == len(rows)
    assert found["test"]["accuracy"] == sum(label == "big" for label in model.labels(rows)) / len(rows)
    assert found["test"]["per_class"][1]["accuracy"] is None  # no sample is small
    assert found["test"]["auroc"] is None


@pytest.mark.slow
def test_several_runs_and_their_ensemble(trained: Callable[..., Path], verb) -> None:
    runs = [copied(trained(*DIGITS, *WEIGHED), "a"), copied(trained("model=mlp", "epochs=2"), "b")]
    done = verb("evaluate", *runs, "--ensemble")
    assert done.code == 0, done.err
    found = json.loads(Path("evaluation-ensemble-1.json").read_text())
    raw, _, targets = own_test(runs[0])
    mean = torch.stack([trainer.load(run).outputs(raw).double().softmax(1) for run in runs]).mean(0)
    assert found["test"]["accuracy"] == accuracy_score(targets, mean.argmax(1))
    # The loss of each run is its own, weighted or not; the ensemble has none, and all have the likelihood.
    assert found["test"]["loss"] is None
    assert found["nll"] == pytest.approx(log_loss(targets, mean), abs=1e-6)
    lines = done.out.splitlines()
    header = [
        "run",
        "part",
        "samples",
        "loss",
        "accuracy",
        "balanced",
        "accuracy",
        "macro",
        "f1",
        "auroc",
        "nll",
        "ece",
    ]
    assert lines[0].split() == header
    assert lines[3].split()[:6] == ["ensemble", "of", "2", "test", "359", f"{found['test']['accuracy']:.2%}"]
    assert lines[3].split()[-2] == f"{found['nll']:.4f}"
    one = written(runs[0])
    assert lines[1].split()[3:5] == [f"{one['test']['loss']:.4f}", f"{one['test']['accuracy']:.2%}"]
    assert one["nll"] == pytest.approx(log_loss(targets, trainer.load("a").outputs(raw).double().softmax(1)), abs=1e-6)
    assert [line.split()[0] for line in lines[1:4]] == ["a", "b", "ensemble"]
    assert lines[4:] == [f"written    {name}" for name in (
        "a/evaluation-1.json", "b/evaluation-1.json", "evaluation-ensemble-1.json")]  # fmt: skip
    # A run that was trained on what another is tested on must not judge it.
    other = copied(trained("model=mlp", "epochs=2", "data.seed=7"), "c")
    done = verb("evaluate", "a", other, "--ensemble")
    assert done.code == 2
    assert "the test split of c is not that of a" in done.err


@pytest.mark.slow
def test_an_ensemble_of_regressions(trained: Callable[..., Path], verb) -> None:
    runs = [copied(trained(*DIABETES), "a"), copied(trained(*DIABETES, "seed=1", "data.seed=0"), "b")]
    assert verb("evaluate", *runs, "--ensemble").code == 0
    raw, _, targets = own_test(runs[0])
    mean = torch.stack([trainer.load(run).predict(raw) for run in runs]).mean(0)
    found = json.loads(Path("evaluation-ensemble-1.json").read_text())
    mse = (mean - targets).square().mean().item()
    assert (found["test"]["loss"], found["mse"]) == (None, pytest.approx(mse, rel=1e-9))
    assert found["test"]["rmse"] == pytest.approx(mse**0.5, rel=1e-9)
    assert written(runs[0])["mse"] == pytest.approx(own(runs[0])["rmse"] ** 2, rel=1e-9)
    done = verb("evaluate", "a", copied(trained(*DIGITS), "c"))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "c: it predicts classes, and a predicts numbers: they have no metric in common." in done.err
    done = verb("evaluate", "a", "--calibrate")
    assert done.code == 2
    assert "a regression has no probabilities to calibrate" in done.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "Missing argument"),
        (("data.root=x",), "no RUN: expected a run folder or a checkpoint file"),
        (("nowhere",), "nowhere: there is no such run"),
        (("RUN", "--ensemble"), "two runs or more"),
        (("RUN", "epochs=5"), "epochs: an evaluation changes only data=, data.*, device and threads."),
        (("RUN", "data.seed=5"), "data.seed: the run's data stays divided as in training"),
        (("RUN", "data=iris"), "samples of [4]; the model was trained on [1, 8, 8]|its classes are not the model's"),
        (("RUN", "data=mnist", "data.root=nowhere"), "nowhere: there is no such folder. Set the folder of the data"),
        (("RUN", "data=mnist", "data.root=x", "device=cuda:88"), "device=cuda:88"),
        (("RUN", "data.root=/nowhere"), "data.root=/nowhere: trainer.data.sources.digits reads no folder. Name other"),
        (("RUN", "data.dataset=iris"), "data.dataset: trainer.data.sources.digits has no such argument"),
        (("RUN", "data.balance=loss"), "data.balance: an evaluation does not use it"),
        (("TABLE", "data.drop=[hue]"), "data.drop: an evaluation does not use it: columns and task are those of"),
        (("RUN", "data=image_folder", "data.root=OTHER"), "its classes are not the model's: 0, 1, 2, 3, 4, 5, 6, 7,"),
        (("RUN", "data=image_folder", "data.root=nowhere"), "data.root=nowhere: no such folder|no such folder"),
        (("RUN", "--part", "all"), "Invalid value for '--part'"),
        (("RUN", "--calibrated"), "there is no such file. Fit it: trainer evaluate"),
    ],
)
@pytest.mark.slow
def test_wrong_usage_is_a_sentence(
    trained: Callable[..., Path], verb, words, sentence: str, photos: Path, table: Path
) -> None:
    names = {"RUN": str(trained(*DIGITS)), "data.root=OTHER": f"data.root={photos}"}
    if "TABLE" in words:
        names["TABLE"] = str(trained(*table_words(table)))
    done = verb("evaluate", *(names.get(word, word) for word in words))
    assert done.code == 2
    assert any(option in done.err for option in sentence.split("|")), done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.slow
def test_a_table_of_other_classes_or_columns(trained: Callable[..., Path], verb, table: Path) -> None:
    run = trained(*table_words(table))
    Path("a.csv").write_text("height,colour,weight,kind\n170,red,70,huge\n160,red,60,big\n")
    Path("b.csv").write_text("height,hue,weight,kind\n170,red,70,big\n160,red,60,big\n")
    done = verb("evaluate", run, "data.path=a.csv")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "a.csv: row 2, column kind: 'huge' is none of the model's classes: big, small" in done.err
    done = verb("evaluate", run, "data.path=b.csv")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "b.csv: the model needs the column colour, which is missing" in done.err


def test_temperatures_of_every_kind_of_output() -> None:
    """Fitted against a grid; one output, probabilities and log-probabilities are brought to logits first."""
    from trainer.data.tasks import Classification
    from trainer.training.calibration import fit, log_probabilities

    torch.manual_seed(0)
    logits = torch.randn(400, 3, dtype=torch.float64)
    targets = torch.distributions.Categorical(logits=logits / 2.5).sample()  # as if they were too sure by 2.5
    grid = torch.linspace(0.5, 6, 2000).tolist()
    expected = min(grid, key=lambda t: float(torch.nn.functional.cross_entropy(logits / t, targets)))
    for outputs, kind in (
        (logits, "logits"),
        (logits.log_softmax(1), "log_probabilities"),
        (logits.softmax(1), "probabilities"),
    ):
        found = fit(Classification(("a", "b", "c"), output=kind), outputs, targets, "")
        assert found.temperature == pytest.approx(expected, abs=0.01)
        assert found.after["nll"] < found.before["nll"]
    binary = Classification(("a", "b"))
    single = log_probabilities(binary, logits[:, :1], 2.0)
    assert torch.allclose(single[:, 1].exp(), (logits[:, 0] / 2).sigmoid())
    sure = torch.tensor([[1000.0, -1000.0], [-1000.0, 1000.0]])
    assert fit(binary, sure, torch.tensor([0, 1]), "").temperature == 1.0  # nothing is better than no loss at all
    zero = log_probabilities(Classification(("a", "b"), output="probabilities"), torch.tensor([[0.0, 1.0]]))
    assert torch.equal(zero.exp(), torch.tensor([[0.0, 1.0]], dtype=torch.float64))


@pytest.mark.slow
def test_a_data_set_of_ones_own_is_typed(trained: Callable[..., Path], verb) -> None:
    """What is typed is trusted; the checkpoint's own targets still are not."""
    run = copied(trained(*DIGITS))
    Path("own_digits.py").write_text(
        "import torch\n"
        "class Grey(torch.utils.data.Dataset):\n"
        "    classes = [str(n) for n in range(10)]\n"
        "    def __len__(self): return 40\n"
        "    def __getitem__(self, i): return torch.full((1, 8, 8), i, dtype=torch.uint8), i % 10\n"
    )
    done = verb("evaluate", run, "data=custom", "data._target_=own_digits.Grey")
    assert done.code == 0, done.err
    assert written(run)["samples"] == 40
