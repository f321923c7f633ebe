"""Hydra's global state, which belongs to all programs in a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.version import VersionBase
from omegaconf.basecontainer import BaseContainer


@contextmanager
def kept_hydra() -> Iterator[None]:
    """Restore Hydra's state on leaving: what it composes, its plugins, and the resolvers of OmegaConf."""
    plugins = Plugins.instance()
    hydra, version = GlobalHydra.instance(), VersionBase.instance()
    tables: list[dict[Any, Any]] = [ConfigStore.instance().repo, SourcesRegistry.instance().types]
    initialized, base, kinds = hydra.hydra, version.version_base, plugins.plugin_type_to_subclass_list
    tables += [plugins.class_name_to_class, kinds, BaseContainer._resolvers]
    before = [(table, dict(table)) for table in tables]
    subclasses = [(those, list(those)) for those in kinds.values()]
    try:
        yield
    finally:
        hydra.hydra, version.version_base = initialized, base
        for table, content in before:
            table.clear()
            table.update(content)
        for those, of_kind in subclasses:
            those[:] = of_kind
