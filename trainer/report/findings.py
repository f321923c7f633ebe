"""What the doctor finds, and how bad it is. Imports no torch."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from trainer.errors import Problem

SEVERITIES = ("error", "warning", "note")  # no run, or a worthless one; look at it; good to know
EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        check: the name of what found it, as in docs/doctor.md.
        severity: one of SEVERITIES.
        count: of what it is about: files, samples, columns, classes.
        what: a sentence without its full stop.
        advice: what to do; empty where there is nothing.
    """

    check: str
    severity: str
    count: int
    what: str
    advice: str = ""


@dataclass
class Report:
    """All that was found and measured.

    Attributes:
        facts: {part: {name: value}} of machine, data and training.
        done: the checks that were made, whether they found something or not.
        skipped: {check: why it was not made}.
    """

    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, check: str, severity: str, count: int, what: str, advice: str = "") -> None:
        assert severity in SEVERITIES
        self.findings.append(Finding(check, severity, count, what, advice))

    def errors(self, check: str, problems: Iterable[Problem]) -> None:
        """Add a finding for each problem of a UserError, which says itself what to do."""
        for problem in problems:
            self.add(check, "error", 1, str(problem).rstrip("."))

    def fact(self, part: str, **values: Any) -> None:
        self.facts.setdefault(part, {}).update(values)

    @property
    def failed(self) -> bool:
        return any(finding.severity == "error" for finding in self.findings)

    def ordered(self) -> list[Finding]:
        """The worst first."""
        return sorted(self.findings, key=lambda finding: SEVERITIES.index(finding.severity))

    def to_dict(self) -> dict[str, Any]:
        return {
            "findings": [asdict(finding) for finding in self.ordered()],
            "facts": self.facts,
            "checks": list(dict.fromkeys(self.done)),
            "skipped": self.skipped,
        }


def some(names: Iterable[str], most: int = EXAMPLES) -> str:
    """The first of them, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def ascii_if_odd(name: str) -> str:
    """A name as it is, or in quotes and escaped where it holds what nobody can see."""
    plain = name == " ".join(name.split()) and unicodedata.is_normalized("NFC", name) and name.isprintable()
    return name if plain else ascii(name)
