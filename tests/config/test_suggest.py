"""Advice for keys and options that do not exist: what was meant, or nothing rather than something far-fetched."""

from __future__ import annotations

import pytest

from trainer.config.compose import Composer
from trainer.errors import did_you_mean, nearest


def advice(*words: str) -> str:
    composer = Composer()
    overrides, problems = composer.read(words, sweep=False)
    (problem,) = [*problems, *composer.job(overrides).problems]
    return problem.advice


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("optim=AdamW", "optim=adamw"),
        ("optim=SGD", "optim=sgd"),
        ("data=MNIST", "data=mnist"),
        ("model=LeNet5", "model=lenet5"),
        ("model=lenet", "model=lenet5"),
        ("dataset=mnist", "data=mnist"),
        ("optimizer=sgd", "optim=sgd"),
        ("dropout=0.5", "model.dropout=0.5"),
        ("learning_rate=0.1", "optim.lr=0.1"),
        ("lr=0.1", "optim.lr=0.1"),
        ("num_epochs=3", "epochs=3"),
        ("batch=8", "batch_size=8"),
        ("modle=lenet5", "model=lenet5"),
        ("epocs=3", "epochs=3"),
        ("Epochs=3", "epochs=3"),
        ("batch_sise=3", "batch_size=3"),
        ("fraction.valid_fraction=0.1", "data.valid_fraction=0.1"),
        ("valid_fracton=0.1", "data.valid_fraction=0.1"),
        ("checkpoint.evry=1ep", "checkpoint.every=1ep"),
        ("sweep.halving.factr=2", "sweep.halving.factor=2"),
        ("chekpoint.evry=1ep", "checkpoint.every=1ep"),
        ("metrics=[mcc]", "metric=[mcc]"),
    ],
)
def test_what_was_meant_is_named_with_its_value(word: str, meant: str) -> None:
    assert advice(word).split("?")[0] == f"Did you mean {meant}"


@pytest.mark.parametrize("word", ["checkpoint.which=all", "sweep.colour=red", "blackboard=1", "figures=f1"])
def test_nothing_far_fetched_is_named(word: str) -> None:
    assert advice(word) == "All keys: train --help"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "way"),
    [
        ("early_stopping=false", "patience=null"),
        ("amp=true", "precision=bfloat16"),
        ("gpus=2", "device=cuda"),
        ("pretrained=true", "model.weights=default"),
        ("output_dir=x", "output=x"),
        ("outputs=runs", "output=runs"),
    ],
)
def test_what_other_tools_have_as_a_key_is_explained(word: str, way: str) -> None:
    assert way in advice(word)


def test_case_counts_less_than_letters() -> None:
    names = ["adam", "AdamX", "adamw"]
    assert [nearest(name, names) for name in ("ADAM", "adamx", "AdamW", "zzz")] == ["adam", "AdamX", "adamw", ""]
    assert did_you_mean("LR", ["lr"], "optim.") == "Did you mean optim.lr?"
