"""Student's t against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from trainer.records.statistics import paired, quantile, two_sided, welch


@pytest.mark.slow
def test_quantiles_are_scipys() -> None:
    for freedom in range(1, 201):
        assert quantile(0.975, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-8)
    for freedom in (1, 2, 30):
        assert quantile(0.9, freedom) == pytest.approx(stats.t.ppf(0.9, freedom), rel=1e-8)


@pytest.mark.parametrize("freedom", [1, 1.37, 2, 5.5, 40, 1000])
def test_probabilities_are_scipys(freedom: float) -> None:
    for t in (0.0, 1e-6, -0.5, 1.0, -1.96, 4.0, 30.0):
        assert two_sided(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), abs=1e-8)
    assert two_sided(1e9, freedom) < 1e-4


@pytest.mark.parametrize("scale", [1e-100, 1e-12, 1.0, 1e12])
@pytest.mark.parametrize("counts", [(2, 2), (3, 3), (2, 9), (30, 5)])
def test_both_t_tests_are_scipys(counts: tuple[int, int], scale: float) -> None:
    random = np.random.default_rng(sum(counts))
    for shift, spread in ((0.0, 1.0), (0.7, 3.0), (5.0, 0.1)):
        a, b = random.normal(0, 1, counts[0]), random.normal(shift, spread, counts[1])
        expected = stats.ttest_ind(a, b, equal_var=False).pvalue
        assert welch((a * scale).tolist(), (b * scale).tolist()) == pytest.approx(expected, abs=1e-6)
        if len(a) == len(b):
            found = paired((a * scale).tolist(), (b * scale).tolist())
            assert found == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=1e-6)


@pytest.mark.parametrize("test", [paired, welch])
def test_without_any_spread_only_equal_means_are_equal(test) -> None:
    assert test([0.5, 0.5], [0.5, 0.5]) == 1
    assert test([0.5, 0.5], [0.25, 0.25]) == 0
