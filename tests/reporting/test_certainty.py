"""Curves of coverage and of precision and recall, by their arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from polytask.data.task import Kind
from polytask.evaluation.thresholds import Thresholds
from polytask.reporting.answered import Answered
from polytask.reporting.certainty import coverage_curve, coverage_section, precision_recall_curve, wilson
from polytask.reporting.label_scores import label_section


def test_coverage_counts_the_surest_answers_and_takes_ties_together() -> None:
    found = coverage_curve([1, 0, 1, 0], [0.9, 0.6, 0.6, 0.5])
    assert found.coverage == pytest.approx((0.25, 0.75, 1.0))
    assert found.score == pytest.approx((1.0, 2 / 3, 0.5))
    assert found.least == (0.9, 0.6, 0.5)


def test_the_curve_shows_where_the_adapter_abstains(answered: Callable[[Kind], Answered]) -> None:
    own = answered("classification")
    cut = sorted(max(row) for row in own.probs)[12]
    thresholds = Thresholds("precision", 0.9, (cut, cut), 60)
    section = coverage_section(with_thresholds(own, thresholds))
    right = [given == true for given, true in zip(own.predictions, own.targets)]
    stands = [max(row) >= cut for row in own.probs]
    measured = section.data["thresholds"]
    assert measured["coverage"][0] == sum(stands) / 24 == pytest.approx(0.5)
    assert measured["precision"][0] == sum(hit for hit, own in zip(right, stands) if own) / sum(stands)
    assert [0.5, measured["precision"][0]] in [point[:2] for point in section.data["points"]]
    assert "own threshold" in section.pictures[0].svg
    assert coverage_section(own).data["thresholds"] is None


def test_labels_are_listed_with_their_thresholds(answered: Callable[[Kind], Answered]) -> None:
    section = label_section(with_thresholds(answered("classification"), Thresholds("recall", 0.5, (None, 0.75), 60)))
    assert section is not None
    (table,) = section.tables
    assert table.columns[-1].heading == "answered from"
    assert {row[0].text: row[-1].text for row in table.rows} == {"bad": "never", "good": "0.750"}
    assert {own["label"]: own["threshold"] for own in section.data["labels"]} == {"bad": None, "good": 0.75}


def with_thresholds(own: Answered, thresholds: Thresholds) -> Answered:
    """The same answers of an adapter with thresholds."""
    changed = replace(own)
    vars(changed)["decision"] = replace(own.decision, thresholds=thresholds)
    return changed


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
