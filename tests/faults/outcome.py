"""Comparison of what a run or a sweep leaves with what an uninterrupted one leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faults.settings import Setting
from helpers.outcome import run_outcome, sweep_outcome
from helpers.stacks import same_sweeps
from helpers.trees import same_tree


class Different(AssertionError):
    """A run that does not end like an uninterrupted one."""


class Lost(AssertionError):
    """A checkpoint that was saved and is gone, or a run that cannot be resumed."""


def outcome(folder: Path, setting: Setting) -> dict[str, Any]:
    """Return what must be equal of a finished run or sweep."""
    return sweep_outcome(folder, setting.exact) if setting.is_sweep else run_outcome(folder)


def compare(folder: Path, setting: Setting, whole: Path) -> None:
    """Compare a finished run or sweep with an uninterrupted one.

    Raises:
        Different: they are not the same.
    """
    ours, theirs = outcome(folder, setting), outcome(whole, setting)
    if not same_tree(ours, theirs):
        raise Different(f"{setting.name}: {', '.join(_differences(ours, theirs))} in {folder}")
    if not setting.exact and not same_sweeps(folder, whole, 1e-10):
        raise Different(f"{setting.name}: the jobs' ends in {folder}")


def _differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Return the places at which two nested structures differ, at most five."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        found = [place for key in a for place in _differences(a[key], b[key], f"{where}.{key}")]
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        found = [place for number, (x, y) in pairs for place in _differences(x, y, f"{where}[{number}]")]
    elif same_tree(a, b):
        return []
    else:
        found = [f"{where.lstrip('.')} ({_short(a)} instead of {_short(b)})"]
    return found[:5]


def _short(value: Any) -> str:
    text = repr(value).replace("\n", " ")
    return text if len(text) < 80 else f"{text[:80]}..."
