"""The configuration of an evaluation: that of the finished run, with overrides of keys that may differ."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from trainer.components.target import Target, Targets
from trainer.components.targets import find_targets
from trainer.config.compose import Composer
from trainer.config.effects import effects_of, keys_where
from trainer.config.job import finish
from trainer.config.overrides import set_value
from trainer.config.schema import Config
from trainer.data.images.options import cache_of
from trainer.data.tables.prepare import TablePrepare
from trainer.errors import Problem, UserError, did_you_mean
from trainer.inference.checkpoint import LoadedCheckpoint, advised

# The keys of a stored configuration that an evaluation uses; it ignores the others.
KEYS = tuple(f.name for f in fields(Config) if effects_of(f.name).evaluation != "ignored")
TYPED = tuple(key for key in keys_where(evaluation="typed") if "." not in key)
SPLITTING = tuple(key for key in keys_where(evaluation="followed") if key.startswith("data."))


@dataclass(frozen=True)
class EvaluationSettings:
    """A finished run and the configuration to evaluate it with.

    Attributes:
        checkpoint: the run.
        config: its configuration, as far as an evaluation uses it, with the overrides applied.
        targets: the resolved targets of the loss and the data.
        stored: the configuration with environment variables unresolved, for files.
    """

    checkpoint: LoadedCheckpoint
    config: Config
    targets: Targets
    stored: dict[str, Any]

    def refusal(self, reason: str) -> UserError:
        """Return the error for data that cannot be used."""
        path = self.config.data.arguments.get("path")
        key, place = ("data.path", path) if path else ("data.root", self.config.data.root)
        return UserError(Problem(key, reason, given=place))


def evaluation_settings(checkpoint: LoadedCheckpoint, words: Sequence[str] = ()) -> EvaluationSettings:
    """Return the settings of an evaluation, all checked.

    `words` override the keys that may differ from training: data=..., data.*, device and threads.

    Raises:
        UserError: an override is wrong or would have no effect, or the stored configuration is not trusted.
    """
    tree = OmegaConf.create(checkpoint.stored(KEYS))
    overridden = _override(tree, words) if words else frozenset()
    job = finish(tree, {}, [])
    if job.problems:
        raise UserError(*(problem.within(checkpoint.path) for problem in job.problems))
    config, trusted = job.config, checkpoint.trusted
    trusts_data = trusted or bool(overridden & {"data", "data._target_"})  # what was typed is trusted
    if trusts_data and not trusted:
        sys.path.append(os.getcwd())  # for a user's own dataset
    own, problems = find_targets(config, ("model", "loss", "metric"), trusted=trusted)
    others, data_problems = find_targets(config, ("data",), trusted=trusts_data)
    if problems or data_problems:
        raise UserError(*(advised(problem, checkpoint.path) for problem in problems + data_problems))
    data = others.data
    if problems := [*_ineffective(overridden, data, config.data.root, checkpoint)]:
        raise UserError(*problems)
    may_name_folder = trusts_data or "data.cache" in overridden
    if not may_name_folder and isinstance(cache_of(data.arguments.get("cache", "auto")), Path):
        # An untrusted file must not choose where something is written.
        data = replace(data, arguments=data.arguments | {"cache": "auto"})
    if not trusts_data and "data.download" not in overridden and data.arguments.get("download"):
        data = replace(data, arguments=data.arguments | {"download": False})  # nor that something is fetched
    return EvaluationSettings(checkpoint, config, Targets({**own.by_group, "data": data}), job.stored)


def _override(tree: DictConfig, words: Sequence[str]) -> frozenset[str]:
    """Apply overrides to the stored configuration `tree`, which is mutated, and return their keys."""
    composer = Composer()
    overrides, problems = composer.read(words, sweep=False)
    keys = frozenset(override.key_or_group for override in overrides)
    for key in sorted(keys):
        if key in SPLITTING:
            reason = "the run's data stays divided as in training: training samples must not be tested on"
            problems.append(Problem(key, reason))
        elif key != "data" and not key.startswith("data.") and key not in TYPED:
            advice = did_you_mean(key, ["data.root", "data.path", *TYPED])
            reason = "an evaluation changes only data=, data.*, device and threads"
            problems.append(Problem(key, reason, advice=advice))
    if problems:
        raise UserError(*problems)
    groups = [override for override in overrides if override.key_or_group == "data"]
    if groups:
        chosen = composer.job(groups).stored["data"]
        kept = {key.removeprefix("data."): OmegaConf.select(tree, key) for key in SPLITTING}
        OmegaConf.update(tree, "data", chosen | kept, merge=False)
    for override in overrides:
        if override.key_or_group != "data":
            set_value(tree, override, composer.groups, problems)
    if problems:
        raise UserError(*problems)
    return keys


def _ineffective(
    overridden: frozenset[str], data: Target, root: str | None, checkpoint: LoadedCheckpoint
) -> Iterator[Problem]:
    """Yield a problem for each override that would have no effect."""
    table = isinstance(checkpoint.metadata.prepare, TablePrepare)
    for key in sorted(overridden):
        if key == "data.root" and "root" not in data.parameters:
            more = "data=NAME, or data.path=FILE" if "path" in data.parameters else "data=NAME"
            yield Problem(key, f"{data.name} reads no folder", given=root, advice="Name other data", command=more)
        elif effects_of(key).evaluation == "ignored":
            yield Problem(key, "an evaluation does not use it; its loss has the class weights of the training")
        elif effects_of(key).evaluation == "columns" and table:
            yield Problem(key, "an evaluation does not use it: columns and task are those of the training")
