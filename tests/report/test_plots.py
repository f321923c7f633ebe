"""Pictures that show something, and a table that says what it does not know."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.metrics import metrics_row
from helpers.pictures import pixels
from trainer.data.tasks import Classification
from trainer.records.metrics import MetricsRow
from trainer.report import console as console_module
from trainer.report import plots
from trainer.report.console import Console, StatusBar


def history(epochs: int, **changed: float | None) -> list[MetricsRow]:
    rows = []
    for n in range(1, epochs + 1):
        values = {"train_loss": 2.0 / n, "valid_loss": 2.2 / n, "train_accuracy": 1 - 0.9 / n}
        rows.append(metrics_row(n, **{**values, "valid_accuracy": 1 - 0.95 / n, **changed}))
    return rows


@pytest.mark.parametrize("epochs", [1, 200])
def test_curves(epochs: int) -> None:
    plots.curves(Path("curves.png"), history(epochs), epochs)
    drawn = pixels(Path("curves.png"))
    plots.curves(Path("other.png"), history(epochs, valid_loss=9.0), epochs)
    other = pixels(Path("other.png"))
    assert drawn.shape == other.shape
    assert (drawn != other).any()


@pytest.mark.parametrize("changed", [{"train_loss": None, "train_accuracy": None}, {"train_loss": 0.0}])
def test_curves_of_incomplete_histories(changed: dict) -> None:
    plots.curves(Path("curves.png"), history(3, **changed), None)
    pixels(Path("curves.png"))


@pytest.mark.parametrize("count", [2, 100])
def test_confusion_matrix(count: int) -> None:
    classes = tuple(f"class {i}" for i in range(count))
    right = (50 * torch.eye(count, dtype=torch.int64)).tolist()
    plots.confusion_matrix(Path("right.png"), right, classes)
    drawn = pixels(Path("right.png"))
    assert max(drawn.shape) < 4000
    if count < 100:
        plots.confusion_matrix(Path("wrong.png"), right[1:] + right[:1], classes)
        other = pixels(Path("wrong.png"))
        assert drawn.shape == other.shape
        assert (drawn != other).any()


def test_a_confusion_matrix_with_an_empty_row_and_odd_names() -> None:
    classes = ("$a_b_c$", "50 % & more", "<b>[red]", "ünïcode")
    matrix = [[3, 1, 0, 0], [0, 0, 0, 0], [1, 0, 5, 0], [0, 0, 0, 2]]
    plots.confusion_matrix(Path("matrix.png"), matrix, classes)
    pixels(Path("matrix.png"))


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (4, 3), (24, 1)])
def test_mistakes(count: int, channels: int) -> None:
    images = torch.randint(0, 256, (count, channels, 16, 16), dtype=torch.uint8)
    plots.mistakes(Path("mistakes.png"), images, [f"{i} (90%)\ntrue: $x" for i in range(count)])
    pixels(Path("mistakes.png"))


def test_mistakes_on_images_of_one_colour() -> None:
    plots.mistakes(Path("mistakes.png"), torch.full((3, 3, 8, 8), 7, dtype=torch.uint8), ["a", "b", "c"])
    pixels(Path("mistakes.png"))


@pytest.mark.parametrize("words", [[], ["data.relabel={even: [0,2,4,6,8], odd: rest}"]])
def test_a_run_draws_its_pictures(words: list[str], train) -> None:
    done = train("model=ann", "epochs=1", "plots=auto", *words)
    assert done.code == 0, done.err
    for name in ("curves", "confusion_matrix", "mistakes"):
        pixels(done.folder / f"{name}.png")


def told(classes: tuple[str, ...], targets: list[int], capfd: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What the console and the log say of a test whose every prediction is class 0."""
    outputs = torch.zeros(len(targets), len(classes))
    outputs[:, 0] = 1
    console = Console(Path("train.log"))
    console.test(Classification(classes).report(outputs, torch.tensor(targets), 1.0), best_epoch=3)
    console.close()
    return capfd.readouterr().out, Path("train.log").read_text()


def test_a_class_without_samples_has_no_accuracy(capfd) -> None:
    for text in told(("cat", "dog", "bird"), [0, 0, 1], capfd):
        rows = {line.split()[0]: line for line in text.splitlines() if line.split()}
        assert rows["bird"].split() == ["bird", "no", "samples"]
        assert rows["cat"].split()[1:3] == ["2/2", "100.00%"]
        assert rows["dog"].split()[1:3] == ["0/1", "0.00%"]
        assert "accuracy 66.67%" in text
        assert "weights of epoch 3" in text


def test_class_names_are_text_and_no_markup(capfd) -> None:
    for text in told(("[bold]loud", "[/]", "a" * 60), [0, 1, 2], capfd):
        assert "[bold]loud" in text
        assert "[/]" in text


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn after a while is drawn at once."""
    for name in ("REDRAW_SECONDS", "LASTING_SECONDS"):
        monkeypatch.setattr(console_module, name, -1.0)


def test_waiting_is_one_line_off_a_terminal(at_once: None, capfd: pytest.CaptureFixture[str]) -> None:
    with StatusBar(lambda: None) as watch:
        watch("waiting for another run", 0, 0)
        for done in range(0, 6001, 1000):
            watch("decoding images", done, 6000)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == ["waiting for another run ... 0 s", "decoding images (6,000) ... 0 s"]


def test_waiting_shortly_is_not_told(capfd: pytest.CaptureFixture[str]) -> None:
    with StatusBar(lambda: None) as watch:
        watch("decoding images", 0, 10)
        watch("decoding images", 10, 10)
    assert capfd.readouterr() == ("", "")


def test_waiting_is_a_bar_on_a_terminal(
    at_once: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with StatusBar(lambda: None) as watch:
        watch("decoding images", 1500, 6000)
    out, err = capfd.readouterr()
    assert out == ""
    assert "decoding images" in err
    assert "1500/6000" in err


def test_waiting_ends_where_the_check_raises(at_once: None, capfd: pytest.CaptureFixture[str]) -> None:
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    def wait() -> None:
        with StatusBar(check) as watch:
            for done in range(10):
                watch("decoding images", done, 10)

    with pytest.raises(KeyboardInterrupt):
        wait()
    assert capfd.readouterr().err == "decoding images (10) ... 0 s\n"
