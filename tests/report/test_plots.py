"""Plots are not empty, and the table of classes shows which values are undefined."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


def lines(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """Return the points of the labelled lines."""
    return {line.get_label(): tuple(map(list, line.get_data())) for line in axes.get_lines()}


@pytest.mark.parametrize("epochs", [1, 200])
def test_curves(epochs: int, figures: list[Figure]) -> None:
    rows = history(epochs)
    plots.curves(Path("curves.png"), rows, "epoch", epochs)
    pixels(Path("curves.png"))
    for axes, name in zip(figures[0].axes, ("loss", "accuracy"), strict=True):
        drawn = lines(axes)
        for split in ("train", "valid"):
            assert drawn[split] == ([row.epoch for row in rows], [row.metrics[f"{split}_{name}"] for row in rows])
        assert drawn[f"best, epoch {epochs}"][0] == [epochs, epochs]
        assert axes.get_title() == name


@pytest.mark.parametrize(
    ("changed", "shown"),
    [({"train_loss": None, "train_accuracy": None}, {"valid"}), ({"train_loss": 0.0}, {"train", "valid"})],
)
def test_curves_of_incomplete_histories(changed: dict, shown: set[str], figures: list[Figure]) -> None:
    plots.curves(Path("curves.png"), history(3, **changed), "epoch", None)
    pixels(Path("curves.png"))
    assert set(lines(figures[0].axes[0])) == shown


@pytest.mark.parametrize("count", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_confusion_matrix(count: int, figures: list[Figure]) -> None:
    classes = tuple(f"class {i}" for i in range(count))
    right = (50 * torch.eye(count, dtype=torch.int64)).tolist()
    plots.confusion_matrix(Path("right.png"), right, classes)
    assert max(pixels(Path("right.png")).shape) < 4000
    axes = figures[0].axes[0]
    assert (axes.images[0].get_array() == torch.eye(count).numpy()).all()
    assert [label.get_text() for label in axes.get_xticklabels()] == list(classes)
    assert [text.get_text() for text in axes.texts] == (["50"] * count if count <= 25 else [])


def test_a_confusion_matrix_with_an_empty_row_and_odd_names(figures: list[Figure]) -> None:
    classes = ("$a_b_c$", "50 % & more", "<b>[red]", "ünïcode")
    matrix = [[3, 1, 0, 0], [0, 0, 0, 0], [1, 0, 5, 0], [0, 0, 0, 2]]
    plots.confusion_matrix(Path("matrix.png"), matrix, classes)
    pixels(Path("matrix.png"))
    axes = figures[0].axes[0]
    shares = [[0.75, 0.25, 0, 0], [0, 0, 0, 0], [1 / 6, 0, 5 / 6, 0], [0, 0, 0, 1]]
    assert torch.allclose(torch.tensor(axes.images[0].get_array()), torch.tensor(shares, dtype=torch.float64))
    assert [label.get_text() for label in axes.get_yticklabels()] == list(classes)


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (4, 3), pytest.param(24, 1, marks=pytest.mark.slow)])
def test_mistakes(count: int, channels: int, figures: list[Figure]) -> None:
    images = torch.randint(0, 256, (count, channels, 16, 16), dtype=torch.uint8)
    captions = [f"{i} (90%)\ntrue: $x" for i in range(count)]
    plots.mistakes(Path("mistakes.png"), images, captions)
    pixels(Path("mistakes.png"))
    shown = [axes for axes in figures[0].axes if axes.images]
    assert [axes.get_title() for axes in shown] == captions
    assert all(axes.images[0].get_array().shape[:2] == (16, 16) for axes in shown)


def test_mistakes_on_images_of_one_colour() -> None:
    plots.mistakes(Path("mistakes.png"), torch.full((3, 3, 8, 8), 7, dtype=torch.uint8), ["a", "b", "c"])
    pixels(Path("mistakes.png"))


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["data.relabel={even: [0,2,4,6,8], odd: rest}"]])
def test_a_run_draws_its_pictures(words: list[str], train) -> None:
    done = train("model=ann", "epochs=1", "plots=auto", *words)
    assert done.code == 0, done.err
    for name in ("curves", "confusion_matrix", "mistakes"):
        pixels(done.folder / f"{name}.png")


def printed_and_logged(
    classes: tuple[str, ...], targets: list[int], capfd: pytest.CaptureFixture[str]
) -> tuple[str, str]:
    """Return console output and log of a test that predicts class 0 for every sample."""
    outputs = torch.zeros(len(targets), len(classes))
    outputs[:, 0] = 1
    console = Console(Path("train.log"))
    console.test(Classification(classes).report(outputs, torch.tensor(targets), 1.0), best="epoch 3")
    console.close()
    return capfd.readouterr().out, Path("train.log").read_text()


def test_a_class_without_samples_has_no_accuracy(capfd) -> None:
    for text in printed_and_logged(("cat", "dog", "bird"), [0, 0, 1], capfd):
        rows = {line.split()[0]: line for line in text.splitlines() if line.split()}
        assert rows["bird"].split() == ["bird", "no", "samples"]
        assert rows["cat"].split()[1:3] == ["2/2", "100.00%"]
        assert rows["dog"].split()[1:3] == ["0/1", "0.00%"]
        assert "accuracy 66.67%" in text
        assert "weights of epoch 3" in text


def test_class_names_are_text_and_no_markup(capfd) -> None:
    for text in printed_and_logged(("[bold]loud", "[/]", "a" * 60), [0, 1, 2], capfd):
        assert "[bold]loud" in text
        assert "[/]" in text


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the delays before drawing."""
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
