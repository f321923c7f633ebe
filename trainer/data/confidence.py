"""How much a test can say: the interval of an accuracy, and classes without samples. Does not import torch."""

from __future__ import annotations

import math
from dataclasses import replace

from trainer.data.metrics import HEADLINES, Interval, SplitReport

FEW = 100  # test samples below which their number and the interval are printed beside the headline metric
QUANTILE = 1.959963984540054  # of the normal distribution, for an interval of 95 %


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share of `total` > 0 samples, by E. B. Wilson's score (1927).

    Unlike the one of the textbook, it is no point if all answers are correct: 5 of 5 could be 57 %.
    """
    share, weight = correct / total, QUANTILE**2 / total
    centre = (share + weight / 2) / (1 + weight)
    half = QUANTILE * math.sqrt(share * (1 - share) / total + weight / (4 * total)) / (1 + weight)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return (0.0 if correct == 0 else low), (1.0 if correct == total else high)


def interval_text(correct: int, total: int) -> str | None:
    """Return the interval of a share as it is printed, such as `56.6% to 100.0%`; None without samples."""
    if not total:
        return None
    low, high = wilson(correct, total)
    return f"{low:.1%} to {high:.1%}"


def with_confidence(report: SplitReport, samples: int) -> SplitReport:
    """Return the report with its number of samples and the interval of its accuracy."""
    interval = None
    if report.per_class and samples:
        interval = Interval(*wilson(sum(entry.correct for entry in report.per_class), samples))
    return replace(report, samples=samples, accuracy_interval=interval)


def beside(report: SplitReport, name: str) -> str:
    """Return what is printed beside a metric of a small test, such as ` (5 samples; 95 %: 56.6% to 100.0%)`."""
    if report.samples is None or report.samples >= FEW or name not in HEADLINES:
        return ""
    count = f"{report.samples} sample{'s' * (report.samples != 1)}"
    if name != "accuracy" or report.accuracy_interval is None:
        return f" ({count})"
    return f" ({count}; 95 %: {report.accuracy_interval.low:.1%} to {report.accuracy_interval.high:.1%})"


def absent(report: SplitReport) -> list[str]:
    """Return the classes and labels without a test sample, about which the test says nothing."""
    classes = [entry.name for entry in report.per_class if not entry.total]
    return classes + [entry.name for entry in report.per_label if not entry.positives]
