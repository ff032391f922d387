"""Curves of coverage and of precision and recall, by their arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from polytask.reporting.certainty import coverage_curve, precision_recall_curve, wilson


def test_coverage_counts_the_surest_answers_and_takes_ties_together() -> None:
    found = coverage_curve([1, 0, 1, 0], [0.9, 0.6, 0.6, 0.5])
    assert found.coverage == pytest.approx((0.25, 0.75, 1.0))
    assert found.score == pytest.approx((1.0, 2 / 3, 0.5))
    assert found.least == (0.9, 0.6, 0.5)


def test_a_long_curve_is_thinned_out_and_keeps_its_ends() -> None:
    sure = np.linspace(1, 0, 5000)
    found = coverage_curve((np.arange(5000) % 2).tolist(), sure.tolist(), most=50)
    assert len(found.coverage) == 50
    assert (found.coverage[-1], found.score[-1]) == (1.0, 0.5)


@pytest.mark.parametrize(("hits", "rows"), [(0, 5), (3, 7), (40, 40)])
def test_the_band_is_wilsons(hits: int, rows: int) -> None:
    low, high = wilson(np.array([hits / rows]), np.array([float(rows)]))
    expected = binomtest(hits, rows).proportion_ci(0.95, method="wilson")
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_precision_and_recall_of_a_ranking() -> None:
    curve = precision_recall_curve("x", np.array([1, 0, 1]), np.array([0.9, 0.8, 0.1]))
    assert list(zip(curve.x, curve.y)) == [(0.0, 1.0), (0.5, 1.0), (0.5, 0.5), (1.0, pytest.approx(2 / 3, abs=1e-4))]
