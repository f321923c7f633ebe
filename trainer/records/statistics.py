"""Student's t distribution without scipy: quantiles and the p-values of t tests."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import lru_cache

LEVEL = 0.05  # settings whose p-value is at least this are tied
INTERVALS = 400  # for Simpson's rule


def _below(angle: float, freedom: float) -> float:
    """Return the probability of a t below tan(angle), for a non-negative angle.

    The error is about 1e-9 for integer degrees of freedom; between 1 and 2 degrees it is up to 1e-4 for probabilities
    near 1.
    """
    constant = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)

    # The substitution t = tan(angle) makes the range of integration finite.
    def density(angle: float) -> float:
        t, cos = math.tan(angle), math.cos(angle)
        return constant * (1 + t * t / freedom) ** (-(freedom + 1) / 2) / (cos * cos)

    step = angle / INTERVALS
    inner = sum((4 if i % 2 else 2) * density(i * step) for i in range(1, INTERVALS))
    return 0.5 + (density(0.0) + inner + density(angle)) * step / 3


@lru_cache(maxsize=256)
def quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t, by bisection; `probability` must be at least 0.5."""
    low, high = 0.0, math.pi / 2 - 1e-9
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _below(middle, freedom) < probability else (low, middle)
    return math.tan(low)


def two_sided(t: float, freedom: float) -> float:
    """Return the two-sided p-value of `t`; `freedom` is at least 1 and need not be an integer."""
    return max(2 * (1 - _below(math.atan(abs(t)), freedom)), 0.0)


def paired(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the two-sided p-value of the paired t test; `a[i]` and `b[i]` share a condition such as the seed."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return _p(statistics.fmean(differences), error, len(differences) - 1)


def welch(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the two-sided p-value of Welch's t test, for samples of two or more values with unequal variances."""
    error_a, error_b = (statistics.variance(values) / len(values) for values in (a, b))
    freedom = 1.0
    if error_a + error_b > 0:
        share = error_a / (error_a + error_b)  # computed first: squares of tiny variances underflow
        freedom = 1 / (share**2 / (len(a) - 1) + (1 - share) ** 2 / (len(b) - 1))
    return _p(statistics.fmean(a) - statistics.fmean(b), math.sqrt(error_a + error_b), freedom)


def _p(difference: float, error: float, freedom: float) -> float:
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return two_sided(difference / error, freedom)
