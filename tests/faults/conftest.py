"""A table of the tries at the end of a test run."""

from __future__ import annotations

from typing import Any

import pytest


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many tries each kind of fault had, and how many commands the faults ended."""
    reports = [report for name in ("passed", "failed") for report in terminalreporter.stats.get(name, [])]
    counts = [dict(report.user_properties) for report in reports if report.when == "call"]
    counts = [count for count in counts if "tries" in count]
    if not counts:
        return
    terminalreporter.section("injected faults")
    for count in counts:
        terminalreporter.write_line("{kind:20} {tries:6} tries {faults:6} faults {failures:6} failures".format(**count))
    sums = {name: sum(count[name] for count in counts) for name in ("tries", "faults", "failures")}
    terminalreporter.write_line("{:20} {tries:6} tries {faults:6} faults {failures:6} failures".format("all", **sums))


@pytest.fixture
def record(record_property: Any) -> Any:
    """Return a function that adds a row to the table."""

    def add(kind: str, tries: int, faults: int, failures: int) -> None:
        for name, value in (("kind", kind), ("tries", tries), ("faults", faults), ("failures", failures)):
            record_property(name, value)

    return add
