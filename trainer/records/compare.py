"""Comparison of runs: how their configurations and their results differ. Does not import torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from trainer.config.effects import tells_jobs_apart
from trainer.config.overrides import leaves_of, value_at
from trainer.data.metrics import LARGE, METRICS
from trainer.errors import printable, show
from trainer.records.record import Record
from trainer.records.results import FINISHED, Results

SPLITS = ("train", "valid", "test")


def names(records: Sequence[Record]) -> list[str]:
    """Return a unique short name for each run: its folder's name, with as much of the path as needed."""
    paths = [record.path.resolve() for record in records]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        short = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(short)) == len(short):
            return short
    return [f"{number}: {path.name}" for number, path in enumerate(paths, 1)]  # the same run was named twice


def changed(records: Sequence[Record]) -> dict[str, list[str]]:
    """Return {key: its value in each run} for the groups and keys in which the runs differ."""
    rows = varying(records)
    return {
        key: ["" if row.get(key) is None else printable(show(row[key])) for row in rows]
        for key in dict.fromkeys(key for row in rows for key in row)
    }


def _figures(results: Results, unit: str) -> dict[str, float | int]:
    """Return the metrics of a run, and its size and cost, by name; its length is in `epoch`s or `step`s."""
    table: dict[str, float | int | None] = {"epochs": results.epochs, "best epoch": results.best_epoch}
    if unit == "step":
        table = {"steps": results.steps, "best step": results.best_step}
    for split in SPLITS:
        table |= {f"{split} {name.replace('_', ' ')}": value for name, value in results.split(split).items()}
    table["parameters"] = results.parameters.get("total")
    table["seconds"] = results.seconds.get("total")
    table["samples per second"] = results.samples_per_second
    return {name: value for name, value in table.items() if value is not None}


def figure_rows(records: Sequence[Record]) -> list[list[str]]:
    """Return rows of text: a name, and each run's value with its difference from the first run's.

    The best value of a metric is marked with an asterisk.
    """
    ended = [record.results for record in records if record.results]
    unit = "step" if any(results.ended_inside or results.best_inside for results in ended) else "epoch"
    tables = [_figures(record.results, unit) if record.results else {} for record in records]
    names = dict.fromkeys(name for table in tables for name in table)
    return [[name, *_with_differences(name, [table.get(name) for table in tables])] for name in names]


def _with_differences(name: str, values: Sequence[float | int | None]) -> list[str]:
    first, cells = values[0], []
    best = _best(name, [value for value in values if value is not None])
    for number, value in enumerate(values):
        if value is None:
            cells.append("")
            continue
        cell = _number(value)
        if number and first is not None:
            cell += f" ({_number(value - first, '+')})"
        cells.append(cell + (" *" if value == best else ""))
    return cells


def _number(value: float | int, sign: str = "") -> str:
    if isinstance(value, int):
        return f"{value:{sign},}"
    return f"{value:{sign}.4f}" if abs(value) < LARGE else f"{value:{sign},.1f}"


def _best(name: str, values: Sequence[float | int]) -> float | int | None:
    """Return the best value of a metric; None if `name` is not a metric, or all values are equal."""
    split, _, label = name.partition(" ")
    metric = METRICS.get(label.replace(" ", "_"))
    if split not in SPLITS or metric is None or len(set(values)) < 2:
        return None
    return min(values) if metric.better == "min" else max(values)


def notes(records: Sequence[Record]) -> list[str]:
    """Return the reasons why the figures are not comparable, one sentence each."""
    sentences = []
    fingerprints = {record.results.data_fingerprint for record in records if record.results}
    if len(fingerprints) > 1:
        sentences.append("The runs used different data (their fingerprints differ): their figures are not comparable.")
    elif len({(_seed(record), repr(record.stored.get("data"))) for record in records}) > 1:
        sentences.append("The runs split their data differently (data.* or seed): small differences may be chance.")
    sentences += [f"{record.path}: {record.status}" for record in records if record.status not in FINISHED]
    return sentences


def _seed(record: Record) -> Any:
    """Return the seed of the data: `data.seed`, or the run's seed if that is not set."""
    seed = value_at(record.stored, "data.seed")
    return record.stored.get("seed") if seed is None else seed


class StoredConfiguration(Protocol):
    """A stored configuration with its choices and overrides: a job, an entry of a ledger, or the record of a run."""

    @property
    def stored(self) -> Mapping[str, Any]: ...
    @property
    def choices(self) -> dict[str, str]: ...
    @property
    def overrides(self) -> list[str] | None: ...


def differing_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return {key: both values} for the keys in which two stored configurations of the same identity differ."""
    before, after = dict(leaves_of(one)), dict(leaves_of(other))
    keys = dict.fromkeys([*before, *after]) if one is not other else {}
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def varying(configurations: Sequence[StoredConfiguration]) -> list[dict[str, Any]]:
    """Return, for each configuration, its values of the groups and keys that vary among the configurations.

    A key that differs only because another option of a group was chosen is left out, as the option's name implies it.
    """
    choices = [each.choices for each in configurations]
    words = [{word.lstrip("+").partition("=")[0] for word in each.overrides or ()} for each in configurations]
    typed = set[str]().union(*words)
    common = typed.intersection(*words)  # a `_target_` that all have typed says more than the class
    names = [g for g in dict.fromkeys(g for c in choices for g in c) if f"{g}._target_" not in common]
    groups = [g for g in names if len({c.get(g) for c in choices}) > 1]
    leaves = [dict(leaves_of(each.stored)) for each in configurations]
    same_choices: dict[str, list[dict[str, Any]]] = {}
    for choice, leaf in zip(choices, leaves, strict=True):
        same_choices.setdefault(repr([choice.get(group) for group in groups]), []).append(leaf)
    keys = [
        key
        for key in dict.fromkeys(key for leaf in leaves for key in leaf)
        if key != "trial"  # the number of a random draw, which its values say better
        and tells_jobs_apart(key)
        and any(_differ(key, compared) for compared in ([leaves] if key in typed else same_choices.values()))
    ]
    return [
        {**{g: c.get(g) for g in groups}, **{key: leaf.get(key) for key in keys}}
        for c, leaf in zip(choices, leaves, strict=True)
    ]


def _differ(key: str, leaves: Sequence[Mapping[str, Any]]) -> bool:
    return len({json.dumps(leaf.get(key), default=str) for leaf in leaves}) > 1
