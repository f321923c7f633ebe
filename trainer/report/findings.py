"""Findings of the doctor, with their severity. Does not import torch."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from trainer.errors import Problem

# An error prevents the run or makes it worthless, a warning should be examined, a note is for information.
SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """Something that the doctor reports.

    Attributes:
        check: the name of the check, as in docs/doctor.md.
        severity: one of SEVERITIES.
        count: number of files, samples, columns or classes that it concerns.
        message: a sentence without its full stop.
        advice: what to do; may be empty.
    """

    check: str
    severity: str
    count: int
    message: str
    advice: str = ""

    @classmethod
    def from_problem(cls, problem: Problem, check: str) -> Finding:
        """Return the finding of a problem, an error; `check` is used if the problem names none."""
        key = problem.key if problem.given is None else f"{problem.key}={problem.given}"
        message = ": ".join(filter(None, (problem.source, key, problem.reason)))
        advice = ": ".join(filter(None, (problem.advice[:1].lower() + problem.advice[1:], problem.command)))
        return cls(problem.check or check, "error", 1, message, advice)


@dataclass
class Report:
    """The findings, facts and checks of a `trainer doctor`.

    Attributes:
        facts: {topic: {name: value}}, such as those of machine, data and training.
        checks: names of the checks that ran, whether they found something or not.
        skipped: {check: reason}.
    """

    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    checks: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, check: str, severity: str, count: int, message: str, advice: str = "") -> None:
        """Add a finding; see Finding."""
        assert severity in SEVERITIES
        self.findings.append(Finding(check, severity, count, message, advice))

    def add_problems(self, problems: Iterable[Problem], check: str) -> None:
        """Add an error for each problem; `check` is used for those that name none."""
        self.findings += [Finding.from_problem(problem, check) for problem in problems]

    def fact(self, topic: str, **values: Any) -> None:
        """Add values to the facts of a topic."""
        self.facts.setdefault(topic, {}).update(values)

    @property
    def failed(self) -> bool:
        """True if any finding is an error."""
        return any(finding.severity == "error" for finding in self.findings)

    def ordered(self) -> list[Finding]:
        """Return the findings, the worst first."""
        return sorted(self.findings, key=lambda finding: SEVERITIES.index(finding.severity))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of `trainer doctor --json`."""
        return {
            "findings": [
                {"check": f.check, "severity": f.severity, "count": f.count, "what": f.message, "advice": f.advice}
                for f in self.ordered()
            ],
            "facts": self.facts,
            "checks": list(dict.fromkeys(self.checks)),
            "skipped": self.skipped,
        }


def ascii_if_odd(name: str) -> str:
    """Return a name as it is, or quoted and escaped if it holds invisible characters."""
    plain = name == " ".join(name.split()) and unicodedata.is_normalized("NFC", name) and name.isprintable()
    return name if plain else ascii(name)
