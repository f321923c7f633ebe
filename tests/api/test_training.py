"""`trainer.train` against the command: the same files, figures and sentences."""

from __future__ import annotations

import csv
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import trainer
from helpers.faulty_models import write
from helpers.runs import CompletedCommand, run_folders
from trainer.training import checkpoint

WORDS = ("data=iris", "model=mlp", "threads=1", "epochs=3", "batch_size=16")
TIMES = ("seconds", "samples_per_second")


def tensors(value: Any, path: str = "") -> dict[str, torch.Tensor]:
    """Return all tensors in nested dicts and lists, by path."""
    if isinstance(value, torch.Tensor):
        return {path: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return {name: tensor for key, inner in items for name, tensor in tensors(inner, f"{path}/{key}").items()}


def assert_same_run(one: Path, other: Path) -> None:
    """Compare checkpoints and metrics bit for bit; times differ."""
    for name in ("last.pt", "best.pt"):
        first, second = (tensors(checkpoint.load(run / "checkpoints" / name)) for run in (one, other))
        assert first.keys() == second.keys()
        assert len(first) > 5
        assert all(torch.equal(first[path], second[path]) for path in first)
    assert (one / "config.yaml").read_text() == (other / "config.yaml").read_text()
    assert figures(one) == figures(other)


def figures(run: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    return [{name: cell for name, cell in row.items() if name not in TIMES} for row in rows]


def test_words_and_keywords_train_the_run_of_the_command(train: Callable[..., CompletedCommand]) -> None:
    done = train(*WORDS, "optim.lr=0.01", "model.hidden=[8,6]", "optim=sgd")
    assert done.folder
    keywords = {"optim": "sgd", "plots": False, "model": {"hidden": [8, 6]}, "optim.lr": 1e-2}
    run = trainer.train(*WORDS, **keywords)
    assert_same_run(done.folder, run.folder)
    changing = {"seconds", "samples_per_second", "command", "overrides", "peak_memory_bytes"}
    assert {k: v for k, v in run.results.items() if k not in changing} == {
        k: v for k, v in done.results.items() if k not in changing
    }
    assert set(run.results["overrides"]) == set(done.results["overrides"])
    assert {path.name for path in run.folder.rglob("*")} == {path.name for path in done.folder.rglob("*")}


def test_a_resumed_run_is_the_uninterrupted_one(train: Callable[..., CompletedCommand]) -> None:
    whole = train(*WORDS)
    run = trainer.train(*WORDS[:-2], "batch_size=16", epochs=2, plots=False)
    resumed = trainer.train(resume=run.folder, epochs=3)
    assert resumed.folder == run.folder
    assert figures(resumed.folder) == figures(whole.folder)


def test_a_run_knows_its_results() -> None:
    run = trainer.train(*WORDS, plots=False)
    assert run.status == run.results["status"] == "completed"
    assert run.folder.is_absolute()
    assert (run.folder / "results.json").is_file()
    assert 0 <= run.results["test"]["accuracy"] <= 1
    assert run.metrics["epoch"] == [1, 2, 3]
    assert run.metrics[1]["valid_loss"] == run.metrics["valid_loss"][1]
    assert run.metrics[1:].columns == run.metrics.columns
    assert repr(run) == f"TrainedRun('{run.folder}', status='completed')"
    rows = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
    assert torch.equal(run.predict(rows), trainer.load(run.folder).predict(rows))
    assert run.labels(rows) == trainer.load(run.folder).labels(rows)
    assert isinstance(run.model, torch.nn.Module)
    assert not run.model.training
    assert run.report() == run.folder / "report.html"
    page = run._repr_html_()
    assert page.startswith('<iframe sandbox="" srcdoc=')
    assert "<" not in page[1:].removesuffix("</iframe>")  # escaped: the frame is one element


def test_a_run_that_is_opened_later_is_not_trusted() -> None:
    write(
        "own.py",
        "from torch import nn\n\nclass Net(nn.Linear):\n    def __init__(self, in_features, num_outputs):\n"
        "        super().__init__(in_features, num_outputs)\n",
    )
    run = trainer.train(WORDS[0], *WORDS[2:], model={"_target_": "own.Net"}, plots=False)
    row = [[5.1, 3.5, 1.4, 0.2]]
    opened = trainer.TrainedRun("outputs/latest")
    assert opened.folder == run.folder
    assert opened.results == run.results
    with pytest.raises(trainer.UserError, match="names code outside this program"):
        opened.predict(row)
    assert torch.equal(trainer.TrainedRun(run.folder, trust=True).predict(row), run.predict(row))
    with pytest.raises(trainer.UserError, match="names code outside this program"):  # the finished run is not executed
        trainer.train(resume=run.folder).predict(row)


def test_mistakes_are_one_exception_with_the_sentences_of_the_command(
    train: Callable[..., CompletedCommand],
) -> None:
    words = ("model=lenet", "epochs=many", "--lr", "0.1")
    done = train(*words)
    with pytest.raises(trainer.UserError) as raised:
        trainer.train(*words)
    assert [f"train: error: {problem}" for problem in raised.value.problems] == done.err.splitlines()
    assert len(raised.value.problems) == 3
    assert not run_folders()
    with pytest.raises(trainer.UserError, match=r"optim\.lr: expected .* not object\.\nepoch: no such key"):
        trainer.train(epoch=3, optim={"lr": object()})


def test_a_sweep_is_not_a_run() -> None:
    with pytest.raises(trainer.UserError, match=r"several values make a sweep: train -m optim\.lr=1,2"):
        trainer.train("optim.lr=1,2")


def test_a_class_that_only_its_own_process_knows_is_named_as_such() -> None:
    with pytest.raises(trainer.UserError, match=r"known to its own process alone. Move it .* mymodule\.Nowhere"):
        trainer.train("data=iris", model={"_target_": "__main__.Nowhere"})


def test_nothing_is_printed_if_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    run = trainer.train(*WORDS, plots=False, quiet=True)
    assert capfd.readouterr() == ("", "")
    assert "test       loss" in (run.folder / "train.log").read_text()


def test_a_run_that_diverges_is_returned() -> None:
    run = trainer.train(*WORDS, plots=False, optim="sgd", **{"optim.lr": 1e30})
    assert run.status == "diverged"
    assert "not finite" in run.results["error"]


def test_a_run_is_trained_in_any_thread() -> None:
    ended = []
    thread = threading.Thread(target=lambda: ended.append(trainer.train(*WORDS, plots=False, quiet=True)))
    thread.start()
    thread.join()
    assert figures(ended[0].folder) == figures(trainer.train(*WORDS, plots=False, quiet=True).folder)


INTERRUPTING = """
import signal
from torch import nn

class Net(nn.Linear):
    def __init__(self, in_features, num_outputs, number, at=(3,)):
        super().__init__(in_features, num_outputs)
        self.calls, self.number, self.at = 0, number, at

    def forward(self, x):
        self.calls += self.training
        if self.training and self.calls in self.at:
            signal.raise_signal(self.number)
        return super().forward(x)
"""


def test_ctrl_c_saves_and_returns_the_run() -> None:
    write("interrupting.py", INTERRUPTING)
    run = trainer.train(*WORDS[0:1], *WORDS[2:], model={"_target_": "interrupting.Net", "number": 2}, plots=False)
    assert run.status == "interrupted"
    assert run.results["steps"] == 3
    assert (run.folder / "checkpoints" / "last.pt").is_file()


def test_a_second_ctrl_c_is_that_of_the_caller() -> None:
    write("interrupting.py", INTERRUPTING)
    model = {"_target_": "interrupting.Net", "number": 2, "at": [3, 4]}
    with pytest.raises(KeyboardInterrupt):
        trainer.train(*WORDS[0:1], *WORDS[2:], "accumulate=4", model=model, plots=False)
    (folder,) = run_folders()
    assert trainer.TrainedRun(folder).status == "interrupted"


def test_a_request_to_end_reaches_the_caller_once_the_run_is_saved() -> None:
    write("interrupting.py", INTERRUPTING)
    saved = []
    before = signal.signal(signal.SIGTERM, lambda *_: saved.append([f.name for f in run_folders()]))
    try:
        model = {"_target_": "interrupting.Net", "number": int(signal.SIGTERM)}
        run = trainer.train(*WORDS[0:1], *WORDS[2:], model=model, plots=False)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert run.status == "interrupted"
    assert saved == [[run.folder.name]]
