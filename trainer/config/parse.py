"""From a composed or stored tree to the typed configuration, with all its problems. Does not import torch."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Mapping
from typing import Any

from trainer.config import keys
from trainer.config.schema import Config, MetricConfig, own_fields
from trainer.config.values import convert
from trainer.data.metrics import RESERVED
from trainer.errors import Problem, did_you_mean, show

METRIC_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,39}")  # becomes a column of metrics.csv


def stored_value(tree: Mapping[str, Any], name: str) -> Any:
    """Return the typed value of a key of the loop in a stored tree; the default if it is missing or invalid."""
    config, _ = parse({name: tree[name]} if name in tree else {})
    return getattr(config, name)


def stored_monitor(tree: Mapping[str, Any]) -> tuple[str, str]:
    """Return the monitored column of a stored tree, and whether the `max` or the `min` of it is the best."""
    config, _ = parse({name: tree[name] for name in ("monitor", "metric") if name in tree})
    return config.monitor, config.direction


def parse(tree: dict[str, Any]) -> tuple[Config, list[Problem]]:
    """Return the typed configuration of a composed, resolved tree, and all its problems.

    Unknown keys, wrong types and values out of range are problems. A key with a problem gets its default, so that the
    other keys can be checked too.
    """
    problems: list[Problem] = []
    return _parse(Config, tree, "", problems), problems


def _parse(cls: type, tree: Any, where: str, problems: list[Problem]) -> Any:
    fields = {f.name: f for f in own_fields(cls)}
    has_target = issubclass(cls, keys.ComponentConfig)
    if not isinstance(tree, dict):
        reason = f"expected keys below it, such as {where}{'_target_' if has_target else next(iter(fields))}=..."
        problems.append(Problem(where.removesuffix("."), reason, given=str(tree)))
        return cls()
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{where}{name}"
        if name not in fields and not has_target:
            problems.append(Problem(path, "no such key", advice=did_you_mean(name, fields, where)))
        elif name not in fields:
            arguments[name] = value
            if not _is_finite(value):
                problems.append(Problem(path, "expected a finite number", given=show(value)))
        elif dataclasses.is_dataclass(hints[name]):
            values[name] = _parse(typing.cast(type, hints[name]), value, f"{path}.", problems)
        elif typing.get_origin(hints[name]) is dict:
            values[name] = _metrics(value, path, problems)
        else:
            limits: Mapping[str, Any] = fields[name].metadata
            if name == "monitor":
                limits = {**limits, "choices": (*limits["choices"], *_monitors(tree.get("metric")))}
            try:
                values[name] = convert(value, hints[name], limits)
            except ValueError as error:
                near = did_you_mean(show(value), limits.get("choices", ()))
                problems.append(Problem(path, f"expected {error}", given=show(value), advice=near))
    if has_target:
        values |= {"target": arguments.pop("_target_", None), "arguments": arguments}
    return cls(**values)


def _monitors(metrics: Any) -> list[str]:
    """Return the columns of the metrics that a tree adds to those of its task."""
    return [f"valid_{name}" for name in metrics if _is_metric_name(name)] if isinstance(metrics, dict) else []


def _is_metric_name(name: Any) -> bool:
    return isinstance(name, str) and METRIC_NAME.fullmatch(name) is not None and name not in RESERVED


def _metrics(tree: Any, where: str, problems: list[Problem]) -> dict[str, MetricConfig]:
    """Return the metrics of a tree by name."""
    if not isinstance(tree, dict):
        problems.append(Problem(where, "expected names of metrics", given=show(tree), command="trainer list metrics"))
        return {}
    for name in tree:
        if name in RESERVED:
            advice = f"Choose another name: {where}.my_{name}._target_=..."
            problems.append(Problem(f"{where}.{name}", "this program has a metric of this name", advice=advice))
        elif not _is_metric_name(name):
            problems.append(Problem(f"{where}.{show(name)}", "expected a name of letters, digits and _"))
    return {
        name: _parse(MetricConfig, each, f"{where}.{name}.", problems)
        for name, each in tree.items()
        if _is_metric_name(name)
    }


def _is_finite(value: Any) -> bool:
    """Return whether no number in a value is infinite or NaN."""
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
