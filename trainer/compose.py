"""Hydra composes: the words of a command line become one or more trees of plain values, or a list of problems.

Hydra reports one problem at a time. So the overrides are read first, each by itself; the choices of groups that exist
are composed by Hydra; and values are set on copies of the result, as Hydra would set them.
"""

from __future__ import annotations

import copy
import difflib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from trainer import config
from trainer.config import Config
from trainer.errors import UserError
from trainer.paths import config_folders

ROOT_NAME = "trainer_config"  # lives in Hydra's ConfigStore, so that no user's config.yaml can shadow it


class _UserConf(SearchPathPlugin):
    """Puts the user's folders before the shipped one: a user's YAML wins over a shipped one of the same name."""

    folders: tuple[str, ...] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in reversed(self.folders):
            search_path.prepend("user", folder)


@dataclass
class Job:
    """One composed configuration.

    Attributes:
        config: typed; a default stands in for what is wrong.
        stored: the tree as a run folder keeps it: resolved, except for environment variables that a user interpolated.
        choices: chosen option of each group.
        overrides: what the user typed for this job.
        problems: one sentence for each thing that is wrong.
        unusual: parts that are not as shipped, so that only their target's signature can tell whether they are right.
    """

    config: Config
    stored: dict[str, Any]
    choices: dict[str, str]
    overrides: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unusual: set[str] = field(default_factory=set)


class Composer:
    """Hydra's configuration loader over the shipped and the user's folders."""

    def __init__(self, config_dir: str | None = None) -> None:
        self.folders = config_folders(config_dir)
        *folders, self.shipped = self.folders
        _UserConf.folders = tuple(f"file://{folder}" for folder in folders)
        Plugins.instance().register(_UserConf)
        root = OmegaConf.load(self.shipped / "config.yaml")
        ConfigStore.instance().store(name=ROOT_NAME, node=OmegaConf.merge(root, OmegaConf.create(config.defaults())))
        GlobalHydra.instance().clear()
        initialize_config_dir(str(self.shipped), version_base="1.3")
        self.loader = loader = GlobalHydra.instance().config_loader()
        self.groups = {
            group: sorted(loader.get_group_options(group)) for group in loader.list_groups("") if group != "hydra"
        }
        self._composed: dict[tuple[str, ...], tuple[DictConfig, dict[str, str]]] = {}

    def read(self, words: Iterable[str], *, sweep: bool) -> tuple[list[Override], list[str]]:
        """The overrides that are sound in spelling, group and option, and a sentence for each that is not."""
        overrides, problems = [], []
        for word in words:
            try:
                override = OverridesParser.create(self.loader).parse_override(word)
            except HydraException:
                problems.append(_unreadable(word))
                continue
            problem = self._problem(override, word, sweep)
            if problem:
                problems.append(problem)
            else:
                overrides.append(override)
        return overrides, problems

    def _problem(self, override: Override, word: str, sweep: bool) -> str | None:
        name = override.key_or_group
        if override.is_sweep_override() and not sweep:
            return f"{word}: several values make a sweep: train -m {word}"
        if override.package is not None:
            return f"{word}: packages (@) are not used here. Write {name}=..."
        if name not in self.groups:
            return None
        if override.is_delete():
            return f"{word}: a group cannot be left out; choose one of {', '.join(self.groups[name])}."
        swept = override.is_sweep_override()
        for value in map(str, override.sweep_string_iterator() if swept else [override.value()]):
            empty = value == "None" and name in ("experiment", "debug")
            if not empty and value not in self.groups[name]:
                near = config.did_you_mean(value, self.groups[name], f"{name}=")
                return f"{name}={value}: no such {name}.{near} There is: {', '.join(self.groups[name])}."
        return None

    def job(self, overrides: list[Override]) -> Job:
        """The configuration of one job, with all its problems of keys, types, ranges and interpolations.

        Raises:
            UserError: where Hydra cannot compose the chosen groups at all.
        """
        grouped = tuple((o.input_line or "").lstrip("+") for o in overrides if o.key_or_group in self.groups)
        base, choices = self._compose(grouped)
        tree = copy.deepcopy(base)
        problems: list[str] = []
        for override in overrides:
            if override.key_or_group not in self.groups:
                set_value(tree, override, self.groups, problems)
        typed = {o.key_or_group for o in overrides}
        job = finish(tree, choices, [o.input_line or "" for o in overrides])
        job.problems = problems + [self._placed(problem, typed, choices) for problem in job.problems]
        job.unusual = self._unusual(base, job.stored, choices)
        return job

    def _compose(self, grouped: tuple[str, ...]) -> tuple[DictConfig, dict[str, str]]:
        if grouped not in self._composed:
            try:
                composed = compose(ROOT_NAME, overrides=list(grouped), return_hydra_config=True)
            except (HydraException, OmegaConfBaseException, YAMLError) as error:
                raise UserError(first_sentence(error)) from error
            chosen = {str(k): str(v) for k, v in composed.hydra.runtime.choices.items() if str(k) in self.groups}
            OmegaConf.set_struct(composed, False)
            del composed["hydra"]
            self._composed[grouped] = (composed, chosen)
        return self._composed[grouped]

    def _file_of(self, group: str, option: str) -> Path | None:
        """The YAML that a choice comes from; None for an empty choice."""
        return next(
            (f / group / f"{option}.yaml" for f in self.folders if (f / group / f"{option}.yaml").is_file()), None
        )

    def _placed(self, problem: str, typed: set[str], choices: dict[str, str]) -> str:
        """The problem with the YAML file that it stands in, if it was not typed."""
        name = re.split(r"[=:]", problem, maxsplit=1)[0]
        if name in typed:
            return problem
        leaf = re.escape(name.rpartition(".")[2])
        for group in (name.partition(".")[0], "debug", "experiment"):
            path = self._file_of(group, choices.get(group, ""))
            if path and re.search(rf"^\s*{leaf}\s*:(?!\s*\?\?\?)", path.read_text(encoding="utf-8"), re.MULTILINE):
                return f"{path}: {problem}"
        return problem

    def _unusual(self, base: DictConfig, tree: dict[str, Any], choices: dict[str, str]) -> set[str]:
        foreign = {
            group
            for group, option in choices.items()
            if (path := self._file_of(group, option)) and not path.is_relative_to(self.shipped)
        }
        if foreign & {"experiment", "debug"}:
            return set(config.PARTS)
        changed = {
            part
            for part in config.PARTS
            if isinstance(tree.get(part), dict)
            and (set(tree[part]) - set(base[part]) or tree[part].get("_target_") != base[part].get("_target_"))
        }
        return (foreign & set(config.PARTS)) | changed


def _unreadable(word: str) -> str:
    if "=" not in word and not word.startswith("~"):
        return f"{word}: expected key=value, such as model=lenet5 or epochs=10."
    return f"{word}: not readable as key=value. Quote what your shell or Hydra treats specially: 'key=\"a b\"'."


def first_sentence(error: Exception) -> str:
    """The gist of a library's message of several lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]).rstrip(".") + "."


def set_value(tree: DictConfig, override: Override, groups: Iterable[str], problems: list[str]) -> None:
    """Sets or deletes one typed value in `tree`; below a part any key may be new, elsewhere it must be there."""
    path, word = override.key_or_group, override.input_line or ""
    known = plain(tree, resolve=False)
    parent, _, leaf = path.rpartition(".")
    present = _find(known, path) is not _ABSENT
    if override.is_delete():
        if present:
            del (OmegaConf.select(tree, parent) if parent else tree)[leaf]
        else:
            problems.append(f"{word}: no such key.{_nearest(path, known, groups, '')}")
    elif parent and not isinstance(_find(known, parent), dict) and _find(known, parent) is not _ABSENT:
        problems.append(f"{word}: {parent} has no keys below it.")
    elif not present and not (parent and path.partition(".")[0] in config.PARTS):
        problems.append(f"{path}: no such key.{_nearest(path, known, groups, word.partition('=')[2])}")
    else:
        OmegaConf.update(tree, path, override.value(), merge=False)


_ABSENT = object()


def _find(tree: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(tree, dict) or name not in tree:
            return _ABSENT
        tree = tree[name]
    return tree


def _nearest(path: str, known: dict[str, Any], groups: Iterable[str], value: str) -> str:
    """Where a key stands that is spelt like this, in any part."""
    leaves = [key for key, _ in leaves_of(known)]
    same_name = [leaf for leaf in leaves if leaf.rpartition(".")[2] == path.rpartition(".")[2]]
    near = same_name[:1] or difflib.get_close_matches(path, [*groups, *leaves], n=1)
    return f" Did you mean {near[0]}={value}?" if near else " All keys: train --help"


def leaves_of(tree: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """(dotted key, value) of everything in a tree that is no mapping with entries."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves_of(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def plain(tree: DictConfig, *, resolve: bool) -> dict[str, Any]:
    """A tree as dicts, lists and values."""
    return cast(dict[str, Any], OmegaConf.to_container(tree, resolve=resolve))


def finish(tree: DictConfig, choices: dict[str, str], overrides: list[str]) -> Job:
    """Resolves interpolations and checks types and ranges.

    Raises:
        UserError: where an interpolation cannot be resolved.
    """
    problems = []
    for missing in sorted(OmegaConf.missing_keys(tree)):
        problems.append(f"{missing}: a value is needed: {missing}=...")
        OmegaConf.update(tree, missing, None)
    raw = plain(tree, resolve=False)
    try:
        resolved = plain(tree, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(first_sentence(error)) from error
    parsed, found = config.parse(resolved)
    parsed.data.root = os.path.abspath(os.path.expanduser(parsed.data.root))
    stored = _keep_environment(raw, resolved)
    if isinstance(stored.get("data"), dict):
        stored["data"]["root"] = parsed.data.root
    return Job(parsed, stored, choices, overrides, problems + found)


def _keep_environment(raw: Any, resolved: Any) -> Any:
    """`resolved`, but with the text of a user's `${oc.env:...}` where `raw` has one: run folders hold no secrets."""
    if isinstance(raw, dict):
        return {k: _keep_environment(raw[k], resolved[k]) for k in raw}
    if isinstance(raw, list):
        return [_keep_environment(a, b) for a, b in zip(raw, resolved, strict=True)]
    return raw if isinstance(raw, str) and re.search(r"\$\{\s*oc\.env", raw) else resolved
