"""Check the arguments of a target against its signature, before anything is built."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from trainer.components.target import Target
from trainer.config.stored import TRUST
from trainer.errors import Problem, did_you_mean, show

FETCHING = ("weights_backbone", "pretrained")  # arguments by which a builder of models downloads
FROM_TASK = ("num_classes", "num_labels", "num_outputs")  # arguments of metrics that no configuration sets
LARGEST_STORED = 1000  # number of bins, thresholds or classes that a stored metric may allocate memory for


def argument_problems(target: Target, passed: Collection[str]) -> list[Problem]:
    """Return the problems of a target's arguments: unknown, missing or of another type.

    Args:
        target: the target.
        passed: arguments that this program passes if the configuration does not set them.
    """
    group, arguments = target.group, target.arguments
    parameters = target.parameters
    named = {p.name: p for p in parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    # What torchmetrics' metrics take besides is about processes that share a metric.
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    open_ended = takes_any and not target.name.startswith("torchmetrics.")
    problems: list[Problem] = []
    for key, value in arguments.items():
        if key in FROM_TASK and group.startswith("metric."):
            problems.append(Problem(f"{group}.{key}", "it follows from the data", given=show(value)))
        elif key not in named and not open_ended:
            own = [name for name in named if name not in passed] or list(named)
            advice = did_you_mean(key, own, f"{group}.") or f"It takes {', '.join(own) or 'none'}."
            problems.append(Problem(f"{group}.{key}", f"{target.name} has no such argument", advice=advice))
        elif key in parameters and isinstance(value, (str, bool)) and _is_number(parameters[key].default):
            problems.append(Problem(f"{group}.{key}", "expected a number", given=show(value)))
    for key, parameter in named.items():
        if parameter.default is parameter.empty and key not in arguments and key not in passed:
            problems.append(Problem(f"{group}.{key}", f"{target.name} needs it", command=f"{group}.{key}=..."))
    return problems


def distrusted(target: Target) -> list[Problem]:
    """Return the problems of arguments that a stored configuration may not have."""
    problems, is_metric = [], target.group.startswith("metric.")
    for key, value in target.arguments.items():
        if key in FETCHING and value:
            reason = "a stored configuration asks for a download"
            problems.append(Problem(f"{target.group}.{key}", reason, advice=TRUST))
        numbers = value if isinstance(value, list) else [value]
        large = [number for number in numbers if _is_number(number) and abs(number) > LARGEST_STORED]
        if is_metric and (large or len(numbers) > LARGEST_STORED):
            reason = f"a stored configuration may have numbers up to {LARGEST_STORED} here"
            problems.append(Problem(f"{target.group}.{key}", reason, given=show(value), advice=TRUST))
    return problems


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
