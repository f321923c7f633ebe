"""Every key has a meaning, a default that is itself accepted, a type and a range."""

from __future__ import annotations

import math
from typing import Any

import pytest

from trainer.config import schema
from trainer.config.parse import parse
from trainer.config.schema import Config, as_typed
from trainer.config.values import Duration
from trainer.errors import Problem, show
from trainer.traits import TRAITS

KEYS = dict(schema.documented_keys())
BOUNDED = [(key, name) for key, field in KEYS.items() for name in ("ge", "gt", "le", "lt") if name in field.metadata]
CHOSEN = [(key, choice) for key, field in KEYS.items() for choice in field.metadata.get("choices", ())]


def tree_of(key: str, value: Any) -> dict[str, Any]:
    """A tree that holds one value: `a.b` and 3 make {"a": {"b": 3}}."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def get(parsed: Config, key: str) -> Any:
    node: Any = parsed
    for name in key.split("."):
        node = getattr(node, name)
    return node


def test_the_defaults_pass_their_own_checks_and_come_back_unchanged() -> None:
    assert parse(schema.defaults()) == (Config(), [])


def test_the_documented_keys_are_those_that_are_composed() -> None:
    def leaves(tree: dict[str, Any], prefix: str = "") -> set[str]:
        return {
            leaf
            for name, value in tree.items()
            for leaf in (leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name})
        }

    assert leaves(schema.defaults()) == set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_says_what_it_means(key: str) -> None:
    meaning = KEYS[key].metadata["meaning"]
    assert len(meaning.split()) >= 3
    assert [k for k, field in KEYS.items() if field.metadata["meaning"] == meaning] == [key]


@pytest.mark.parametrize(
    ("key", "given", "becomes"),
    [
        ("epochs", 3, 3),
        ("epochs", 1e3, 1000),
        ("clip_norm", 1, 1.0),
        ("clip_norm", None, None),
        ("patience", None, None),
        ("seed", 2**63 - 1, 2**63 - 1),
        ("threads", 2, 2),
        ("test", True, True),
        ("plots", False, False),
        ("drop_last", True, True),
        ("freeze", "conv1.*", ["conv1.*"]),
        ("freeze", ["a", "b"], ["a", "b"]),
        ("freeze", None, []),
        ("device", "cuda:1", "cuda:1"),
        ("name", 7, "7"),
        ("data.workers", 0, 0),
        ("data.relabel", {"a": [0], "b": "rest"}, {"a": [0], "b": "rest"}),
        ("checkpoint.every", "5min", Duration(5, "min")),
        ("checkpoint.every", "auto", None),
        ("validate_every", "200st", Duration(200, "st")),
        ("data.balance", "none", None),
        ("sweep.stack", "auto", None),
        ("sweep.stack", "true", True),
        ("sweep.stack", 8, 8),
        ("device", "auto", None),
        ("model.weights", "none", None),
        ("model.weights", None, None),
        ("schedule.warmup_epochs", 2, 2.0),
    ],
)
def test_sound_values_get_the_type_of_their_key(key: str, given: Any, becomes: Any) -> None:
    parsed, problems = parse(tree_of(key, given))
    assert not problems
    value = get(parsed, key)
    assert value == becomes
    assert type(value) is type(becomes)


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("epochs", 0),
        ("epochs", 2.5),
        ("epochs", True),
        ("epochs", "3"),
        ("epochs", None),
        ("epochs", [3]),
        ("epochs", {"a": 3}),
        ("epochs", math.inf),
        ("batch_size", -1),
        ("seed", 2**63),
        ("drop_last", "yes"),
        ("drop_last", 1),
        ("drop_last", None),
        ("data.valid_fraction", 0),
        ("data.valid_fraction", 1),
        ("clip_norm", 0),
        ("clip_value", math.nan),
        ("min_delta", -0.1),
        ("max_minutes", math.inf),
        ("device", "gpu"),
        ("device", "cuda:x"),
        ("threads", 0),
        ("threads", "many"),
        ("precision", "float8"),
        ("monitor", "loss"),
        ("validate_every", "5min"),
        ("validate_every", "0ep"),
        ("validate_every", 3),
        ("checkpoint.every", "1h"),
        ("checkpoint.every", None),
        ("name", "../elsewhere"),
        ("name", ""),
        ("freeze", [1]),
        ("data.relabel", ["a"]),
        ("schedule.interval", "batch"),
        ("data.root", ["a"]),
    ],
)
def test_other_values_are_one_problem_and_the_default_stands_in(key: str, given: Any) -> None:
    parsed, problems = parse(tree_of(key, given))
    assert len(problems) == 1
    assert str(problems[0]).startswith(f"{key}={show(given)}: expected ")
    assert get(parsed, key) == get(Config(), key)


@pytest.mark.parametrize(("key", "bound"), BOUNDED)
def test_limits_are_kept_and_named(key: str, bound: str) -> None:
    limit = KEYS[key].metadata[bound]
    outside = {"ge": limit - 1, "gt": limit, "le": limit + 1, "lt": limit}[bound]
    (problem,) = parse(tree_of(key, outside))[1]
    assert str(limit) in problem.reason
    if bound in ("ge", "le"):
        assert not parse(tree_of(key, limit))[1]


@pytest.mark.parametrize(("key", "choice"), CHOSEN)
def test_every_choice_is_accepted_and_offered_to_who_misspells_it(key: str, choice: str) -> None:
    parsed, problems = parse(tree_of(key, choice))
    assert not problems
    assert show(as_typed(KEYS[key], get(parsed, key))) == choice
    (problem,) = parse(tree_of(key, choice + "x"))[1]
    assert problem.advice == f"Did you mean {choice}?"
    assert all(other in problem.reason for other in KEYS[key].metadata["choices"])


@pytest.mark.parametrize("kind", TRAITS)
def test_every_type_of_device_is_a_value_of_device(kind: str) -> None:
    parsed, problems = parse({"device": kind})
    assert (parsed.device, problems) == (kind, [])
    parsed, problems = parse({"device": f"{kind}:1"})
    assert bool(problems) == (not TRAITS[kind].numbered)
    assert kind in KEYS["device"].metadata["meaning"]


@pytest.mark.parametrize(
    ("key", "near"), [("epocs", "epochs"), ("checkpoint.evry", "checkpoint.every"), ("debug.batch", "debug.batches")]
)
def test_unknown_keys_are_problems(key: str, near: str) -> None:
    (problem,) = parse(tree_of(key, 1))[1]
    assert str(problem) == f"{key}: no such key. Did you mean {near}?"


@pytest.mark.parametrize("part", [group for group in schema.GROUPS if group != "metric"])
def test_other_keys_of_a_part_are_arguments_of_its_target(part: str) -> None:
    parsed, problems = parse({part: {"_target_": "a.B", "size": 3, "target": 4}})
    assert not problems
    assert getattr(parsed, part).target == "a.B"
    assert getattr(parsed, part).arguments == {"size": 3, "target": 4}


@pytest.mark.parametrize("value", [math.nan, math.inf, [0.9, -math.inf], {"a": [[1, math.nan]]}])
def test_arguments_must_be_finite(value: Any) -> None:
    assert parse({"optim": {"lr": value}})[1] == [Problem("optim.lr", "expected a finite number", given=show(value))]


@pytest.mark.parametrize("value", ["lenet5", None, 3, ["a"]])
def test_a_part_without_keys_is_a_problem(value: Any) -> None:
    parsed, (problem,) = parse({"model": value})
    assert "expected keys below it" in problem.reason
    assert parsed == Config()


def test_all_problems_are_found_at_once() -> None:
    tree = {"epochs": -3, "seed": "x", "optim": {"lr": math.inf}, "debug": {"batchs": 1}, "data": {"workers": -1}}
    problems = parse(tree)[1]
    assert [problem.key for problem in problems] == ["epochs", "seed", "optim.lr", "debug.batchs", "data.workers"]


def test_defaults_are_not_shared() -> None:
    one, two = Config(), Config()
    one.freeze.append("conv1.*")
    one.optim.arguments["lr"] = 1
    assert two.freeze == []
    assert two.optim.arguments == {}


@pytest.mark.parametrize(
    ("text", "amount", "unit"), [("1ep", 1, "ep"), ("200st", 200, "st"), ("5min", 5, "min"), ("10ep", 10, "ep")]
)
def test_durations(text: str, amount: int, unit: str) -> None:
    assert Duration.parse(text) == Duration(amount, unit)
    assert not parse({"checkpoint": {"every": text}})[1]
