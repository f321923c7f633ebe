"""Runs side by side: what was configured differently, and what came of it. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from trainer.config.compose import Job
from trainer.config.overrides import leaves_of
from trainer.config.schema import DIRECTIONS, Config, is_free_on_resume
from trainer.errors import printable, show
from trainer.records.record import Record

PARTS = ("train", "valid", "test")
SMALLER_IS_BETTER = ("loss", "mae", "rmse")


FINISHED = ("completed", "early_stopped")
# Not among the columns of a leaderboard although they vary.
DULL = ("trial",)


def names(records: Sequence[Record]) -> list[str]:
    """A short name for each run that no other has: its folder's, with as much of the path as it takes."""
    paths = [record.path.resolve() for record in records]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        short = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(short)) == len(short):
            return short
    return [f"{number}: {path.name}" for number, path in enumerate(paths, 1)]  # one run named twice


def changed(records: Sequence[Record]) -> dict[str, list[str]]:
    """{key: its value in each run} of the choices and keys in which not all agree, as `varying` tells them."""
    jobs = [Job(Config(), record.stored, record.choices, _typed(record)) for record in records]
    told = varying(jobs)
    return {key: [_shown(row.get(key)) for row in told] for key in dict.fromkeys(key for row in told for key in row)}


def _typed(record: Record) -> list[str]:
    return record.overrides or []


def _shown(value: Any) -> str:
    return "" if value is None else printable(show(value))


def figures(records: Sequence[Record]) -> dict[str, list[float | int | None]]:
    """{name: its value in each run} of everything that results.json has in numbers."""
    found: dict[str, list[float | int | None]] = {}
    tables: list[dict[str, Any]] = []
    for record in records:
        results = record.results
        table: dict[str, Any] = {"epochs": results.get("epochs"), "best epoch": results.get("best_epoch")}
        for part in PARTS:
            figures = results.get(part) or {}
            table |= {f"{part} {k.replace('_', ' ')}": v for k, v in figures.items() if k != "threshold"}
        table["parameters"] = (results.get("parameters") or {}).get("total")
        table["seconds"] = (results.get("seconds") or {}).get("total")
        table["samples per second"] = results.get("samples_per_second")
        tables.append({name: value for name, value in table.items() if isinstance(value, (int, float))})
    for name in dict.fromkeys(name for table in tables for name in table):
        found[name] = [table.get(name) for table in tables]
    return found


def figure_rows(records: Sequence[Record]) -> list[list[str]]:
    """Rows for the terminal: the name, and for each run its value with the difference to the first run's."""
    return [[name, *_with_differences(name, values)] for name, values in figures(records).items()]


def _with_differences(name: str, values: Sequence[float | int | None]) -> list[str]:
    first, told = values[0], []
    best = _best(name, [value for value in values if value is not None])
    for number, value in enumerate(values):
        if value is None:
            told.append("")
            continue
        text = f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"
        if number and first is not None:
            text += f" ({_signed(value - first)})"
        told.append(text + (" *" if value == best else ""))
    return told


def _signed(difference: float | int) -> str:
    if isinstance(difference, int):
        return f"{difference:+,}"
    return f"{difference:+.4f}" if abs(difference) < 100 else f"{difference:+,.1f}"


def _best(name: str, values: Sequence[float | int]) -> float | int | None:
    """The best of a figure of quality; None where it is none, or where all are the same."""
    part, _, figure = name.partition(" ")
    if part not in PARTS or len(set(values)) < 2:
        return None
    smaller = figure in SMALLER_IS_BETTER or DIRECTIONS.get(f"valid_{figure}") == "min"
    return min(values) if smaller else max(values)


def notes(records: Sequence[Record]) -> list[str]:
    """What keeps the figures from being comparable."""
    told = []
    prints = {record.results.get("data_fingerprint") for record in records if record.results}
    if len(prints) > 1:
        told.append("The runs were given different data (their fingerprints differ): figures do not compare.")
    elif len({(_seed(record), repr(record.stored.get("data"))) for record in records}) > 1:
        told.append("The runs split their data differently (data.* or seed): small differences may be chance.")
    told += [f"{record.path}: {record.status}" for record in records if record.status not in FINISHED]
    return told


def _seed(record: Record) -> Any:
    data = record.stored.get("data")
    own = data.get("seed") if isinstance(data, dict) else None
    return record.stored.get("seed") if own is None else own


def differing_keys(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys in which two stored configurations of the same identity differ, and both values."""
    before, after = dict(leaves_of(one)), dict(leaves_of(other))
    keys = dict.fromkeys([*before, *after]) if one is not other else {}
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def varying(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """For each job what sets it apart: the choices of groups and the keys in which not all jobs agree.

    What differs only because another option of a group was chosen is left out: the option's name says it.
    """
    choices = [job.choices for job in jobs]
    groups = [g for g in dict.fromkeys(g for c in choices for g in c) if len({c.get(g) for c in choices}) > 1]
    leaves = [dict(leaves_of(job.stored)) for job in jobs]
    keys = dict.fromkeys(key for leaf in leaves for key in leaf)
    typed = {word.lstrip("+").partition("=")[0] for job in jobs for word in job.overrides}
    alike: dict[str, list[dict[str, Any]]] = {}  # jobs of the same choices
    for choice, leaf in zip(choices, leaves, strict=True):
        alike.setdefault(repr([choice.get(group) for group in groups]), []).append(leaf)
    told = [
        key
        for key in keys
        if key not in DULL
        and not is_free_on_resume(key)
        and any(_differ(key, some) for some in ([leaves] if key in typed else alike.values()))
    ]
    return [
        {**{g: c.get(g) for g in groups}, **{key: leaf.get(key) for key in told}}
        for c, leaf in zip(choices, leaves, strict=True)
    ]


def _differ(key: str, leaves: Sequence[dict[str, Any]]) -> bool:
    return len({json.dumps(leaf.get(key), default=str) for leaf in leaves}) > 1
