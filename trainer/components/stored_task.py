"""The task of a checkpoint as plain values, and checks of values of a file that is not trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from trainer.data.labels import MAX_CLASSES
from trainer.data.multilabel import MultiLabel
from trainer.data.regression import Regression
from trainer.data.tasks import Classification, Task
from trainer.errors import printable

OUTPUTS = ("logits", "probabilities", "log_probabilities")


def expect(condition: bool, name: str) -> None:
    """Check a value of the file.

    Raises:
        ValueError: the condition does not hold.
    """
    if not condition:
        raise ValueError(f"its {name} is invalid")


def one_of(value: Any, choices: Sequence[str], name: str) -> str:
    """Return a value that is one of these texts; for `Raises`, see `expect`."""
    expect(isinstance(value, str) and value in choices, name)
    return value


def numbers(values: Any, name: str, *, above: float = -math.inf) -> tuple[float, ...]:
    """Return a list of finite numbers, all of them above a bound; for `Raises`, see `expect`."""
    expect(isinstance(values, (list, tuple)), name)
    converted = tuple(float(value) for value in values)
    expect(all(math.isfinite(number) and number > above for number in converted), name)
    return converted


def is_name(value: Any) -> bool:
    """Return whether the value is text without control characters."""
    return isinstance(value, str) and printable(value) == value


def stored_task(content: Any) -> Task:
    """Return the task of a checkpoint's content.

    Raises:
        ValueError: a value is invalid.
    """
    output = one_of(content["output"], OUTPUTS, "output")
    if content["task"] == "regression":
        return _regression(content)
    classes = _names(content["classes"], "classes")
    if content["task"] == "multilabel":
        expect(bool(classes) and output != "log_probabilities", "classes")
        return MultiLabel(classes, output=output)
    expect(len(classes) >= 2, "classes")
    return Classification(classes, output=output)


def _names(names: Any, where: str) -> tuple[str, ...]:
    expect(isinstance(names, (list, tuple)) and len(names) <= MAX_CLASSES, where)
    expect(all(map(is_name, names)) and len(set(names)) == len(names), where)
    return tuple(names)


def stored_scale(task: Regression) -> list[float] | dict[str, list[float]]:
    """Return [mean, std] of a single target, {name: [mean, std]} of several."""
    if isinstance(task.mean, tuple) and isinstance(task.std, tuple):
        return {name: list(pair) for name, *pair in zip(task.targets, task.mean, task.std, strict=True)}
    return [task.mean, task.std]  # type: ignore[list-item]


def _regression(content: Any) -> Regression:
    stored = content["target_scale"]
    names = _names(list(stored), "target_scale") if isinstance(stored, dict) else ()
    pairs = [numbers(pair, "target_scale") for pair in (stored.values() if names else [stored])]
    expect(all(len(pair) == 2 and pair[1] > 0 for pair in pairs), "target_scale")
    if not names:
        mean, std = pairs[0]
        return Regression(mean, std)
    return Regression(tuple(mean for mean, _ in pairs), tuple(std for _, std in pairs), names)
