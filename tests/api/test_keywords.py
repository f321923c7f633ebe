"""Keyword arguments as overrides: the composed value is the Python value."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from trainer.api.keywords import words_of
from trainer.config.compose import Composer

CHARACTERS = "a1 _'\"\\${}[](),:=.#%~+-*@|?/\t\n\r\x00é\u200b😀!&;<>^`\x1b"
KEYS: list[Any] = ["a b", "a  b-c", 1, -3, "n$x"]  # of mappings, none of which an override could spell alone


def composed(composer: Composer, value: Any) -> Any:
    words, problems = words_of({"key": value})
    overrides, unreadable = composer.read(words, sweep=False)
    assert not problems + unreadable, value
    return OmegaConf.to_container(OmegaConf.create({"key": overrides[0].value()}), resolve=True)["key"]


def any_value(draw: random.Random, depth: int = 0) -> Any:
    number = draw.choice([0, -1, 10**18, -(10**200), 1e-3, 1e22, -1e-300, float("inf"), 1.5, 5e-324, 1e16])
    text = "".join(draw.choice(CHARACTERS) for _ in range(draw.randrange(8)))
    if depth > 2 or draw.random() < 0.7:
        return draw.choice([text, text, text, number, None, True, False])
    values = [any_value(draw, depth + 1) for _ in range(draw.randrange(3))]
    return values if draw.random() < 0.5 else {draw.choice(KEYS): value for value in values}


@pytest.mark.parametrize("count", [150, pytest.param(20_000, marks=pytest.mark.exhaustive)])
def test_the_composed_value_is_the_python_value(count: int) -> None:
    composer, draw = Composer(), random.Random(count)
    for _ in range(count):
        value = any_value(draw)
        assert composed(composer, value) == value
        assert type(composed(composer, value)) is type(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("' 1_0 '", "' 1_0 '"),
        ("\\\n", "\\\n"),
        ("True", "True"),
        ("${oc.env:HOME}", "${oc.env:HOME}"),
        ("\\${x}", "\\${x}"),
        ((1, 2), [1, 2]),
        (range(3), [0, 1, 2]),
        (Path("a b/c"), "a b/c"),
        (np.float64(1e-3), 1e-3),
        (np.int64(3), 3),
        (np.bool_(True), True),
    ],
)
def test_values_that_hydra_reads_as_something_else(value: Any, expected: Any) -> None:
    assert composed(Composer(), value) == expected


def test_mappings_become_an_override_for_each_value() -> None:
    assert words_of({"optim": {"lr": 1e-3, "betas": [0.9, 0.99]}, "model": "lenet5", "optim.eps": 1e-6})[0] == [
        *("optim.lr=0.001", "optim.betas=[0.9,0.99]", "model=lenet5", "optim.eps=1e-06")
    ]
    assert words_of({"data": {}, "loss": {"weight": {"a b": 1}}})[0] == ["data={}", "loss.weight={a\\ b:1}"]


def test_values_that_no_configuration_holds_are_named_together() -> None:
    words, problems = words_of({"optim": {"lr": object()}, "epochs": {1}, "seed": 1, "name": {"it's": 1}})
    assert words == ["seed=1"]
    assert list(map(str, problems)) == [
        "optim.lr: expected a number, text, bool, None, list or dict, not object.",
        "epochs: expected a number, text, bool, None, list or dict, not set.",
        'name: expected a number, text, bool, None, list or dict, not a dict with the key "it\'s".',
    ]
