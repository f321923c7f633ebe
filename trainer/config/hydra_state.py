"""Hydra's global state, which belongs to all programs in a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from omegaconf.basecontainer import BaseContainer


@contextmanager
def kept_hydra() -> Iterator[None]:
    """Restore Hydra's state on leaving: what it composes, its plugins, and the resolvers of OmegaConf."""
    plugins = Plugins.instance()
    hydra, tables = GlobalHydra.instance(), (ConfigStore.instance().repo, SourcesRegistry.instance().types)
    initialized, classes = hydra.hydra, plugins.class_name_to_class
    before = [(table, dict(table)) for table in (*tables, classes, BaseContainer._resolvers)]
    kinds = [(those, list(those)) for those in plugins.plugin_type_to_subclass_list.values()]
    try:
        yield
    finally:
        hydra.hydra = initialized
        for table, content in before:
            table.clear()
            table.update(content)
        for those, classes_of_kind in kinds:
            those[:] = classes_of_kind
