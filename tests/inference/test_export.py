"""`trainer export`: other programs get the same outputs from the file, or it is not written."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import trainer
from helpers.runs import own_test
from helpers.words import table_words

pytestmark = pytest.mark.slow

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
DIGITS = ("epochs=3",)


def copied(run: Path) -> Path:
    shutil.copytree(run, "run")
    return Path("run")


def answers(path: str, samples: torch.Tensor) -> torch.Tensor:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,), (found,) = session.get_inputs(), session.get_outputs()
    assert (given.name, found.name) == ("samples", "outputs")
    assert given.shape[0] == found.shape[0] == "batch"
    return torch.from_numpy(session.run(None, {"samples": samples.numpy()})[0])


def test_images_as_onnx_with_preprocessing(trained: Callable[..., Path], verb) -> None:
    run = copied(trained(*DIGITS))
    done = verb("export", run, "--format", "onnx", "--preprocess")
    assert done.code == 0, done.err
    assert done.out.startswith("agrees     with torch on 256 test samples: largest difference ")
    assert sorted(path.name for path in run.glob("model*")) == ["model.onnx"]  # one file
    raw, outputs, _ = own_test(run)
    assert raw.dtype == torch.uint8
    for size in (1, 2, 7, len(raw)):
        assert torch.allclose(answers("run/model.onnx", raw[:size]), outputs[:size], atol=1e-4)
    model = onnx.load("run/model.onnx")
    onnx.checker.check_model(model, full_check=True)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(about["classes"]) == list("0123456789")
    assert json.loads(about["prepare"])["shape"] == [1, 8, 8]
    assert about["output"] == "logits"


def test_rows_as_onnx_with_missing_values_and_categories(trained: Callable[..., Path], verb, table: Path) -> None:
    run = copied(trained(*table_words(table)))
    assert verb("export", run, "--format", "onnx", "--preprocess", "--out", "rows.onnx").code == 0
    raw, outputs, _ = own_test(run)
    assert raw.isnan().any()
    assert torch.allclose(answers("rows.onnx", raw), outputs, atol=1e-5)


def test_a_network_with_batch_norm_alone(trained: Callable[..., Path], verb) -> None:
    """Without preprocessing the prepared samples go in."""
    run = copied(trained("model=mlp", "model.norm=batch", "epochs=2"))
    assert verb("export", run, "--format", "onnx").code == 0
    raw, outputs, _ = own_test(run)
    inputs = trainer.load(run).prepare(raw)
    assert torch.allclose(answers("run/model.onnx", inputs), outputs, atol=1e-4)


@pytest.mark.parametrize("preprocess", [True, False])
def test_pt2(trained: Callable[..., Path], verb, preprocess: bool) -> None:
    run = copied(trained("data=wine", "model=mlp", "epochs=3", "precision=float64", "data.folds=3", "data.fold=1"))
    flags = ["--preprocess"] if preprocess else []
    done = verb("export", run, "--format", "pt2", *flags, "--out", "wine.pt2")
    assert done.code == 0, done.err
    raw, outputs, _ = own_test(run)
    extra = {"about.json": ""}
    model = torch.export.load("wine.pt2", extra_files=extra).module()
    samples = raw if preprocess else trainer.load(run).prepare(raw, torch.float64)
    for size in (1, 5, len(raw)):
        assert torch.allclose(model(samples[:size]), outputs[:size], rtol=0, atol=1e-9)
    assert json.loads(extra["about.json"])["classes"] == list(trainer.load(run).classes)


def test_state_dict(trained: Callable[..., Path], verb) -> None:
    run = copied(trained(*DIGITS))
    assert verb("export", run, "--format", "state_dict").code == 0
    weights = torch.load(run / "model.pt", weights_only=True)
    own = trainer.load(run).model.state_dict()
    assert weights.keys() == own.keys()
    assert all(torch.equal(weights[name], own[name]) for name in own)


OWN_MODEL = """
import torch
from torch import nn

class Shifty(nn.Linear):
    def __init__(self, in_features: int, num_outputs: int):
        super().__init__(in_features, num_outputs)
    def forward(self, x):
        out = super().forward(x.flatten(1))
        return out + 0.01 if torch.compiler.is_exporting() or torch.jit.is_tracing() else out

class Moody(Shifty):
    def forward(self, x):
        out = nn.Linear.forward(self, x.flatten(1))
        return out if x.is_meta or x.sum().item() > 0 else -out
"""


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_what_does_not_agree_is_not_written(train, verb, form: str) -> None:
    """A model that behaves otherwise while it is exported; and what stood there still stands."""
    Path("shifty.py").write_text(OWN_MODEL)
    run = train("model=mlp", "model._target_=shifty.Shifty", "~model.hidden", "~model.activation", "~model.norm",
                "~model.dropout", "epochs=1").folder  # fmt: skip
    Path("there").write_text("what stood there")
    done = verb("export", run, "--format", form, "--out", "there", "--replace")
    assert done.code == 2
    assert "a stored configuration names code outside this program. If you trust it, add --trust." in done.err
    done = verb("export", run, "--format", form, "--out", "there", "--replace", "--trust")
    assert done.code == 1, done.out + done.err
    assert f"as {form} its outputs differ by 0.01 from torch's" in done.err
    assert Path("there").read_text() == "what stood there"
    assert not list(Path().glob(".there*"))


def test_what_cannot_be_exported_is_a_sentence(train, verb) -> None:
    words = ("model=mlp", "~model.hidden", "~model.activation", "~model.norm", "~model.dropout", "epochs=1")
    Path("shifty.py").write_text(OWN_MODEL)
    run = train(*words, "model._target_=shifty.Moody").folder
    done = verb("export", run, "--format", "pt2", "--trust")
    assert done.code == 1
    assert "cannot be exported as pt2: " in done.err
    assert len(done.err.splitlines()) == 1
    assert not (run / "model.pt2").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--format", "tflite"), "Invalid value for '--format'"),
        ((), "Missing option '--format'"),
        (("--format", "onnx", "--out", "nowhere/x.onnx"), "there is no folder nowhere"),
        (("--format", "onnx", "--out", "taken"), "taken: it already exists. Choose another with --out FILE, or add"),
        (("--format", "state_dict", "--preprocess"), "a state dict holds weights alone"),
        (("--format", "pt2", "epochs=3"), "an evaluation changes only data=, data.*, device and threads"),
        (("--format", "pt2", "data=mnist", "data.root=nowhere"), "nowhere: there is no such folder"),
    ],
)
def test_wrong_usage_is_a_sentence(trained: Callable[..., Path], verb, words, sentence: str) -> None:
    Path("taken").write_text("x")
    done = verb("export", trained(*DIGITS), *words)
    assert done.code == 2
    assert sentence in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra_one_sentence_names_it(
    trained: Callable[..., Path], verb, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    done = verb("export", trained(*DIGITS), "--format", "onnx", "--out", "x.onnx")
    assert done.code == 2
    assert done.err == (f"trainer: error: --format onnx: {name} is not installed: pip install 'trainer-cli[export]'\n")
