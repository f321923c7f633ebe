"""Features of frozen layers are computed once, and nothing else changes."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.components import assemble
from helpers.datasets import CLASSES, write_images
from helpers.trees import same_tree
from helpers.words import calibrated_words
from trainer.config.schema import Config
from trainer.signals import Signals
from trainer.training import checkpoint
from trainer.training.interfaces import TrainingData
from trainer.training.loop import fit

FEW = ["freeze=backbone", "epochs=2", "batch_size=16", "debug.batches=3"]
SHUFFLENET = ["model=torchvision", "model.name=shufflenet_v2_x0_5", "model.image_size=32", "model.weights=none"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> list[str]:
    with contextlib.chdir(tmp_path_factory.mktemp("weights")):
        return calibrated_words("mobilenet_v3_small")  # with Dropout before its last layer


class Nowhere:
    """Saves and tells nothing."""

    def due(self, state: Any) -> bool:
        return False

    def save(self, state: Any) -> bool:
        return True

    def keep(self, state: Any) -> None: ...
    def begin(self, state: Any, done: int, total: int) -> None: ...
    def advance(self, state: Any, batches: int, samples: int) -> None: ...
    def row(self, row: dict, best: bool) -> None: ...


def history(config: Config, *, kept: bool) -> tuple[list[dict], dict]:
    """The rows of a run, timings left out, and its last weights."""
    config = replace(config, model=replace(config.model, cache_features=None if kept else False))
    with Signals() as signals:
        parts = assemble(config)
        assert bool(parts.features) == kept
        parts.cache_features(("train", "valid"), lambda *how_far: signals.check())
        data = TrainingData(parts.train, parts.valid)
        outcomes = fit(parts.population, data, Nowhere(), Nowhere(), signals)
        assert [outcome.status for outcome in outcomes] == ["completed"]
    rows = [
        {k: v for k, v in row.to_dict().items() if k not in ("seconds", "samples_per_second")}
        for row in parts.state.history
    ]
    return rows, parts.state.evaluated.state_dict()


def assert_the_same_with_and_without(config: Config) -> None:
    (rows, weights), (expected_rows, expected) = (history(config, kept=kept) for kept in (True, False))
    assert len(rows) == len(expected_rows) == 2
    for row, other in zip(rows, expected_rows, strict=True):
        assert row == pytest.approx(other, rel=1e-5, abs=1e-5)
    assert expected_rows[0]["train_loss"] != pytest.approx(expected_rows[1]["train_loss"], abs=1e-3)  # it learns
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-5, msg=name)


OPTIONS = {
    "plain": [],
    "averaged, balanced": ["ema.decay=0.5", "data.balance=sampler"],
    "in parts": ["accumulate=2", "drop_last=true", "clip_norm=1", "schedule=cosine"],
    "streamed in double precision": ["data.resident=false", "data.workers=0", "precision=float64"],
    "another head": ["model.head=mlp", "model.dropout=[0.2,0.5]", "model.output=log_probabilities", "loss=nll"],
    "half precision": ["precision=bfloat16"],
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.slow
def test_results_are_the_same_to_the_fifth_digit(option: str, backbone: list[str], job) -> None:
    assert_the_same_with_and_without(job(*backbone, *FEW, *OPTIONS[option]).config)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["model=resnet18", "model.weights=none", "model.image_size=32"], marks=pytest.mark.slow),
        pytest.param(["model=alexnet", "model.weights=none", "model.image_size=64"], marks=pytest.mark.slow),
        ["model=lenet5"],
        ["data=iris", "model=mlp"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_any_model_may_keep_its_features(words: list[str], job) -> None:
    assert_the_same_with_and_without(job(*words, *FEW, "optim=sgd", "optim.lr=0.1").config)


@pytest.mark.slow
def test_photos_that_are_decoded_by_workers(backbone: list[str], job) -> None:
    write_images(Path("photos"), dict.fromkeys(CLASSES, 20), size=32)
    words = ["data=image_folder", "data.root=photos", "data.resident=false", "data.workers=1"]
    assert_the_same_with_and_without(job(*words, *backbone, *FEW).config)


@pytest.mark.slow
def test_a_whole_run_is_tested_alike_and_says_what_it_keeps(backbone: list[str], train) -> None:
    words = [*backbone, *FEW, "optim.lr=0.01"]
    kept, usual = train(*words), train(*words, "model.cache_features=false")
    assert kept.code == usual.code == 0
    sentence = "features of the frozen backbone are computed once and cached"
    assert sentence in kept.out
    assert sentence not in usual.out
    assert kept.results["test"]["loss"] == pytest.approx(usual.results["test"]["loss"], abs=1e-5)
    assert kept.results["test"]["confusion_matrix"] == usual.results["test"]["confusion_matrix"]
    assert kept.results["valid"] == pytest.approx(usual.results["valid"], abs=1e-5)


@pytest.mark.slow
def test_resume_is_exact(backbone: list[str], train) -> None:
    words = [*backbone, *FEW, "model.head=mlp", "model.hidden=8", "model.dropout=0.5", "test=false"]
    expected = checkpoint.load(train(*words).folder / "checkpoints" / "last.pt")["run"]
    for stop in (2, 3):  # within an epoch, and between two
        done = train(f"resume={train(*words, f'max_steps={stop}').folder}", "max_steps=null")
        assert done.code == 0, done.err
        assert "computed once and cached" in done.out
        found = checkpoint.load(done.folder / "checkpoints" / "last.pt")["run"]
        for part in ("model", "optimizer", "schedule", "step", "epoch"):
            assert same_tree(found[part], expected[part])


@pytest.mark.parametrize(
    "words",
    [
        ["augment=flip_crop"],
        ["augment.mixup=0.2"],
        ["augment.cutmix=1"],
        ["unfreeze_at=1"],
        ["freeze=[conv*]"],
        ["freeze=none"],
        ["model.cache_features=false"],
        ["compile=true"],
        ["model.name=squeezenet1_1", "model.image_size=64"],  # whose last layer is not its last step
    ],
    ids=" ".join,
)
@pytest.mark.slow
def test_features_are_not_kept_where_they_vary(words: list[str], job) -> None:
    assert not assemble(job(*SHUFFLENET, *FEW, *words).config).features


@pytest.mark.slow
def test_samples_that_change_keep_nothing(train) -> None:
    Path("own_noise.py").write_text(
        "import torch\n"
        "class Noise(torch.utils.data.Dataset):\n"
        "    def __len__(self):\n        return 60\n"
        "    def __getitem__(self, index):\n        return torch.randn(8), index % 3\n"
    )
    done = train("data=custom", "data._target_=own_noise.Noise", "model=ann", *FEW)
    assert done.code == 0, done.err
    assert "computed once" not in done.out


@pytest.mark.slow
def test_features_that_do_not_fit_into_memory_are_not_kept(backbone: list[str], job, monkeypatch) -> None:
    config = job(*backbone, "data=digits", *FEW).config
    needed = 1024 * 4 * 3 * 48  # numbers before the head, bytes, parts, samples
    for free, kept in ((2 * needed, True), (2 * needed - 1, False)):
        monkeypatch.setattr("trainer.device.free_memory", lambda device, free=free: free)
        parts = assemble(config)
        assert bool(parts.features) == kept
        feature_notes = [
            note for note in parts.data.notes if note.startswith("features of the frozen layers are not cached")
        ]
        assert len(feature_notes) == (not kept)


@pytest.mark.slow
def test_filling_tells_how_far_it_is(backbone: list[str], job) -> None:
    parts, calls = assemble(job(*backbone, "data=digits", *FEW).config), []
    parts.cache_features(("train", "valid"), lambda *how_far: calls.append(how_far))
    assert calls[0] == ("features of the frozen layers", 0, 48)
    assert all(done < total == 48 for _, done, total in calls)
