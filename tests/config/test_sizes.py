"""Sizes of models that are no whole numbers from 1 are mistakes, which need no torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from helpers.processes import HEAVY, run_without
from helpers.runs import CompletedCommand
from trainer.components.targets import STORED_OURS, resolve
from trainer.config.keys import ModelConfig
from trainer.config.sizes import FROM_DATA, size_problems

LIST = "a list of whole numbers from 1, such as [64]"
ONE = "a whole number from 1"
MODELS = {
    "mlp.MLP": {**dict.fromkeys(("[64, 0]", "[0]", "[-1]", "[true]", "[a]", "[1.5]", "0", "a", "null"), LIST)},
    "mlp.ANN": dict.fromkeys(("0", "-3", "true", "a", "[64]", "1.5", "null"), ONE),
    "vision.torchvision_model": dict.fromkeys(("0", "[0]", "[64, -1]"), f"{ONE}, or a list of them, such as [64, 32]"),
    "vision.timm_model": dict.fromkeys(("0", "[0]", "true"), f"{ONE}, or a list of them, such as [64, 32]"),
}


def problems(model: str, **arguments: Any) -> list[str]:
    config = ModelConfig(target=f"trainer.models.{model}", arguments=arguments)
    return [problem.reason.removeprefix("expected ") for problem in size_problems(config)]


@pytest.mark.parametrize(("model", "text"), [(model, text) for model, texts in MODELS.items() for text in texts])
def test_hidden_sizes_are_whole_numbers_from_1(model: str, text: str) -> None:
    value = yaml.safe_load(text)
    assert problems(model, hidden=value) == [MODELS[model][text]]


def test_a_number_where_a_list_is_needed_is_shown_as_one() -> None:
    assert problems("mlp.MLP", hidden=128) == ["a list of sizes, such as [128]"]


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        ("mlp.MLP", {"hidden": [64, 1], "in_features": None}),
        ("mlp.MLP", {"hidden": []}),
        ("mlp.ANN", {"hidden": 1}),
        ("cnn.SequentialCNN", {"image_size": [9, 28]}),
        ("vision.torchvision_model", {"hidden": 256, "image_size": None, "growth_rate": 0}),
        ("vision.timm_model", {"hidden": [8, 8], "image_size": [32, 32]}),
    ],
)
def test_sizes_in_range_are_accepted(model: str, sizes: dict[str, Any]) -> None:
    assert not problems(model, **sizes)


@pytest.mark.parametrize("target", [None, 3, ["a"], "a.Net", "trainer.models.mlp", "trainer.models.mlp.X"])
def test_targets_of_other_kinds_have_no_sizes(target: Any) -> None:
    assert not size_problems(ModelConfig(target=target, arguments={"hidden": 0}))


@pytest.mark.parametrize("target", sorted(STORED_OURS["model"]))
def test_every_whole_number_that_a_model_takes_is_a_size(target: str) -> None:
    parameters = inspect.signature(resolve(target, "model", trusted=True)).parameters.values()
    names = [p.name for p in parameters if "int" in str(p.annotation)]
    wrong = {name: [0, -1] for name in names}
    assert len(problems(target.removeprefix("trainer.models."), **wrong)) == len(names)
    assert set(FROM_DATA) & {p.name for p in parameters} <= set(names)


@pytest.mark.parametrize(("model", "value", "expected"), [("mlp", "[64, 0]", LIST), ("ann", "-1", ONE)])
def test_the_answer_needs_no_torch(model: str, value: str, expected: str) -> None:
    done = run_without(HEAVY, "train", f"model={model}", f"model.hidden={value}")
    assert done.returncode == 2
    assert done.stderr.endswith(f"error: model.hidden={value}: expected {expected}.\n")


@pytest.mark.parametrize("first", ["{Linear: [64, 0]}", "{Conv2d: [1, 0, 3]}"])
def test_a_layer_without_elements_is_refused_in_any_model(first: str, train: Callable[..., CompletedCommand]) -> None:
    layers = f"[{first}, Flatten, {{Linear: [0, 10]}}]"
    done = train("model=sequential", f"model.layers={layers}", "debug=fast")
    assert (done.code, done.folder) == (2, None)
    (line,) = done.err.splitlines()
    assert "weight has the shape [" in line
    assert line.endswith("without any element; sizes are whole numbers from 1.")
