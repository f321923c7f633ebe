"""Composition of jobs from the words of a command line, with all problems reported together.

Hydra reports one problem at a time. Therefore each override is first read by itself; then Hydra composes the valid
choices of groups; and values are set on copies of the result, as Hydra would set them.
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from trainer.config import schema
from trainer.config.catalog import config_folders, groups
from trainer.config.job import Job, class_names, finish, gist
from trainer.config.limits import check_file
from trainer.config.overrides import plain, set_value
from trainer.config.search_space import Range
from trainer.config.words import quoted, refuse_word, repeated, unreadable
from trainer.data.metrics import METRICS, Metric
from trainer.errors import Problem, UserError, suggestions

MANY = "metric"  # the group of which any number of options is chosen
ROOT_NAME = "_root_of_trainer_"  # in Hydra's ConfigStore, where no user's config.yaml can shadow it


class _UserFiles(FileConfigSource):
    """Source of the files in the user's folders, which are read within limits and named in messages."""

    @staticmethod
    def scheme() -> str:
        return "user"

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path, self._normalize_file_name(config_path))
        try:
            check_file(path)
            return super().load_config(config_path)
        except (OmegaConfBaseException, YAMLError) as error:
            raise UserError(Problem(str(path), gist(error))) from error


class _UserConf(SearchPathPlugin):
    """Plugin that puts the user's folders before the shipped one: they hide shipped options of the same name."""

    folders: tuple[str, ...] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in reversed(self.folders):
            search_path.prepend("user", folder)


class Composer:
    """Hydra's configuration loader over the shipped and the user's folders."""

    def __init__(self, config_dir: str | None = None) -> None:
        self.folders = config_folders(config_dir)
        *folders, self.shipped = self.folders
        _UserConf.folders = tuple(f"{_UserFiles.scheme()}://{folder}" for folder in folders)
        Plugins.instance().register(_UserConf)
        Plugins.instance().register(_UserFiles)
        root = OmegaConf.load(self.shipped / "config.yaml")
        ConfigStore.instance().store(name=ROOT_NAME, node=OmegaConf.merge(root, OmegaConf.create(schema.defaults())))
        GlobalHydra.instance().clear()
        initialize_config_dir(str(self.shipped), version_base="1.3")
        self.loader = GlobalHydra.instance().config_loader()
        self.groups = {  # not the loader's: it copies all it has for each group, which takes longer than composing
            group: [name for name, _ in options] for group, options in groups(self.folders).items() if group != "hydra"
        }
        self._composed: dict[tuple[str, ...], tuple[DictConfig, dict[str, Any], dict[str, str]]] = {}

    def read(self, words: Iterable[str], *, sweep: bool) -> tuple[list[Override], list[Problem]]:
        """Return the overrides with a valid spelling, group and option, and a problem for each of the others."""
        overrides, problems, by_key = [], [], defaultdict[str, list[str]](list)
        for word in words:
            if problem := refuse_word(word):
                problems.append(problem)
                continue
            try:
                override = OverridesParser.create(self.loader).parse_override(quoted(word))
                override.config_loader = self.loader  # for glob(...)
            except HydraException:
                problems.append(unreadable(word))
                continue
            by_key[override.key_or_group].append(word)
            if problem := self._problem(override, word, sweep):
                problems.append(problem)
            else:
                overrides.append(override)
        return overrides, problems + repeated(by_key)

    def _problem(self, override: Override, word: str, sweep: bool) -> Problem | None:
        name = override.key_or_group
        if override.is_sweep_override() and not sweep:
            return Problem(word, "several values make a sweep", command=f"train -m {word}")
        if override.package is not None:
            return Problem(word, "packages (@) are not supported", advice=f"Write {name}=...")
        if name not in self.groups:
            return None
        if override.is_delete():
            return Problem(word, f"a group cannot be left out; choose one of {', '.join(self.groups[name])}")
        swept = override.is_sweep_override()
        values = list(override.sweep_string_iterator()) if swept else [override.value()]
        if name == MANY:  # [a,b], and in a sweep, as text, '[a,b]'
            values = [each for value in values for each in _listed(value)]
        for value in map(str, values):
            empty = value == "None" and name in ("experiment", "debug")
            if not empty and value not in self.groups[name]:
                if name == MANY and value in METRICS:
                    return _computed_anyway(METRICS[value])
                advice = suggestions(value, self.groups[name], f"{name}=")
                return Problem(name, f"no such {name}", given=value, advice=advice)
        return None

    def job(self, overrides: list[Override], suggest: Callable[[str, Range], Any] | None = None) -> Job:
        """Return one job, with all its problems of keys, types, ranges and interpolations.

        Args:
            overrides: overrides that `read` returned.
            suggest: chooses the values of ranges; default: they are drawn at random.

        Raises:
            UserError: Hydra cannot compose the chosen groups at all.
        """
        grouped = tuple((o.input_line or "").lstrip("+") for o in overrides if o.key_or_group in self.groups)
        base, shipped, choices = self._compose(grouped)
        tree = copy.deepcopy(base)
        problems: list[Problem] = []
        for override in overrides:
            if override.key_or_group not in self.groups:
                set_value(tree, override, self.groups, problems)
        typed = {o.key_or_group for o in overrides}
        job = finish(tree, choices, [o.input_line or "" for o in overrides], suggest)
        problems += [self._with_file(problem, typed, choices) for problem in job.problems]
        altered = self._altered(shipped, job.stored, choices)
        return replace(job, choices=choices | class_names(typed, job.stored), problems=problems, altered=altered)

    def sweep_of(self, overrides: list[Override]) -> dict[str, str] | None:
        """Return the parameters of a chosen experiment that is a sweep (`hydra.mode: MULTIRUN`), or None."""
        chosen = next((o for o in overrides if o.key_or_group == "experiment"), None)
        if chosen is None or chosen.is_sweep_override() or chosen.value() is None:
            return None
        try:
            composed = compose(ROOT_NAME, overrides=[f"experiment={chosen.value()}"], return_hydra_config=True)
        except (HydraException, OmegaConfBaseException, UserError):
            return None  # composing the job reports it
        if str(composed.hydra.mode).rpartition(".")[2] != "MULTIRUN":
            return None
        return {str(key): str(value) for key, value in (composed.hydra.sweeper.params or {}).items()}

    def _compose(self, grouped: tuple[str, ...]) -> tuple[DictConfig, dict[str, Any], dict[str, str]]:
        """Return the tree of these choices, its plain values without interpolations resolved, and the choices."""
        if grouped not in self._composed:
            try:
                composed = compose(ROOT_NAME, overrides=list(grouped), return_hydra_config=True)
            except (HydraException, OmegaConfBaseException) as error:
                raise UserError(Problem("", gist(error))) from error
            chosen = {str(k): str(v) for k, v in composed.hydra.runtime.choices.items() if str(k) in self.groups}
            if composed.get(MANY):  # Hydra names no choice that is a list
                chosen[MANY] = ",".join(map(str, composed[MANY]))
            OmegaConf.set_struct(composed, False)
            del composed["hydra"]
            self._composed[grouped] = (composed, plain(composed, resolve=False), chosen)
        return self._composed[grouped]

    def _file_of(self, group: str, option: str) -> Path | None:
        """Return the YAML file of an option; None for an empty choice."""
        paths = (folder / group / f"{option}.yaml" for folder in self.folders)
        return next((path for path in paths if path.is_file()), None)

    def _with_file(self, problem: Problem, typed: set[str], choices: dict[str, str]) -> Problem:
        """Return the problem with the YAML file that sets its key, unless the key was typed."""
        name = problem.key
        if name in typed:
            return problem
        leaf = re.escape(name.rpartition(".")[2])
        for group in (name.partition(".")[0], "debug", "experiment"):
            path = self._file_of(group, choices.get(group, ""))
            if path and re.search(rf"^\s*{leaf}\s*:(?!\s*\?\?\?)", path.read_text(encoding="utf-8"), re.MULTILINE):
                return problem.within(path)
        return problem

    def _altered(self, shipped: dict[str, Any], tree: dict[str, Any], choices: dict[str, str]) -> set[str]:
        options = [(group, option) for group, chosen in choices.items() for option in chosen.split(",")]
        files = [(group, self._file_of(group, option)) for group, option in options]
        foreign = {group for group, path in files if path and not path.is_relative_to(self.shipped)}
        if foreign & {"experiment", "debug"}:
            return set(schema.GROUPS)
        altered = {name for name in schema.GROUPS if name in foreign or _is_altered(tree.get(name), shipped[name])}
        return altered | ({MANY} if tree[MANY] != shipped[MANY] else set())


def _is_altered(group: Any, shipped: dict[str, Any]) -> bool:
    """Return whether a group has another target or key, or something else where a number from 0 is shipped."""
    if not isinstance(group, dict):
        return False
    plausible = all(
        key in shipped and (not _is_number(shipped[key]) or value is None or (_is_number(value) and value >= 0))
        for key, value in group.items()
    )
    return not plausible or group.get("_target_") != shipped.get("_target_")


def _listed(value: Any) -> list[str]:
    """Return the options that a list names, `[a,b]` or its text, or a single one."""
    if isinstance(value, list):
        return [str(each) for each in value]
    text = str(value)
    return [each.strip() for each in text.strip("[]").split(",") if each.strip()] if text.startswith("[") else [text]


def _computed_anyway(metric: Metric) -> Problem:
    if metric.computed != "monitored":
        when = "in the test" if metric.computed == "test" else "at every validation and in the test"
        return Problem(MANY, f"it is computed anyway, {when}; leave it out", given=metric.name)
    command = f"monitor={metric.monitors[0]}"
    reason = "it is computed anyway, in the test; at every validation if it is monitored"
    return Problem(MANY, reason, given=metric.name, advice="Leave it out, or use", command=command)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))
