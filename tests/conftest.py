"""Which tests are slow; and the fixtures, from `helpers.fixtures`."""

from __future__ import annotations

import atexit
import gc
import os
import sys

import pytest

# Waiting threads must not occupy the cores that other tests need; read once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Each child process would compile this program, and each worker of the tests all tests.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
gc.disable()  # until the tests are collected: imports leave no garbage
SLOW_FIXTURES = {"server", "train_process", "browse"}  # they start processes


def pytest_configure(config: pytest.Config) -> None:
    """Load the fixtures, and with them torch, except where `-n` leaves the tests to other processes."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        config.pluginmanager.import_plugin("helpers.fixtures")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests as slow that are exhaustive or start processes through a fixture."""
    for item in items:
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())) or item.get_closest_marker("exhaustive"):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but pass over what the imports left: a full pass over it takes 0.3 s."""
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)  # modules are then freed in order; nanobind would report leaks
