"""Bootstrap intervals and tests: metrics of resamples equal scikit-learn's, and error rates are as stated."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import scipy.stats

from polytask.data.metric_names import METRIC_KINDS
from polytask.data.task import Answer, Kind
from polytask.errors import RecipeError
from polytask.evaluation.metrics import score
from polytask.evaluation.significance import (
    _metric_of_counts,
    bootstrap_interval,
    bootstrap_scores,
    distinct_rows,
    nested_bootstrap_interval,
    paired_test,
    resample_counts,
    student_interval,
)

Answers = Sequence[Any]


def answers(kind: Kind, num_rows: int, num_labels: int, seed: int) -> tuple[Answers, Answers]:
    """Targets, and predictions that are correct about half of the time."""
    draw = random.Random(seed)

    def one() -> Any:
        if kind == "classification":
            return draw.randrange(num_labels)
        if kind == "multilabel":
            return tuple(label for label in range(num_labels) if draw.random() < 0.3)
        if kind == "span":
            return (Answer(draw.choice(["the plot", "a plot", "a great plot", "plot and actor", "film"]), 0),)
        return draw.choice([0.5, 1.0, 1.5, 2.0, draw.random()])

    targets = [one() for _ in range(num_rows)]
    return targets, [target if draw.random() < 0.5 else one() for target in targets]


CASES = [
    (metric, kind, num_labels, num_rows)
    for metric in METRIC_KINDS
    for kind in METRIC_KINDS[metric]
    for num_labels in ((0,) if kind in ("regression", "span") else (2, 5))
    for num_rows in (3, 40)
]


@pytest.mark.parametrize(("metric", "kind", "num_labels", "num_rows"), CASES)
def test_each_metric_of_a_resample_equals_that_of_its_rows(
    metric: str, kind: Kind, num_labels: int, num_rows: int
) -> None:
    for seed in range(2):
        targets, predictions = answers(kind, num_rows, num_labels, seed)
        cells, cell_of = distinct_rows(list(zip(targets, predictions)))
        own, given = zip(*cells)
        statistic = _metric_of_counts(metric, kind, own, given, num_labels)
        (counts,) = resample_counts(cell_of, len(cells), seed, 20)
        for found, drawn in zip(statistic(counts), counts.astype(int)):
            rows = [row for cell, times in zip(cells, drawn) for row in [cell] * times]
            assert len(rows) == num_rows
            right, answered = zip(*rows)
            assert found == pytest.approx(score(metric, kind, right, answered, num_labels=num_labels), abs=1e-9)


def test_both_ways_to_resample_have_the_same_distribution() -> None:
    few = np.concatenate(list(resample_counts([0] * 60 + [1] * 40, 2, 0, 4000)))
    many = np.concatenate(list(resample_counts([0] * 60 + [1] * 40, 21, 0, 4000)))  # as if there were more cells
    for counts in (few, many):
        assert (counts.sum(axis=1) == 100).all()
        assert counts[:, 0].mean() == pytest.approx(60, abs=0.4)
        assert counts[:, 0].std() == pytest.approx((100 * 0.6 * 0.4) ** 0.5, abs=0.25)


def test_an_interval_of_accuracy_is_close_to_the_binomial_one() -> None:
    targets, predictions = [1] * 1000, [1] * 800 + [0] * 200
    low, high = bootstrap_interval("accuracy", "classification", targets, predictions, num_labels=2)
    assert (low, high) == pytest.approx((0.8 - 1.96 * 0.01265, 0.8 + 1.96 * 0.01265), abs=0.004)


def test_an_interval_contains_the_true_score_in_about_95_of_100_samples() -> None:
    draw = random.Random(0)
    held = 0
    for _ in range(200):
        targets = [draw.random() < 0.4 for _ in range(200)]
        given = [int(target if draw.random() < 0.7 else not target) for target in targets]
        low, high = bootstrap_interval(
            "accuracy", "classification", list(map(int, targets)), given, num_labels=2, resamples=300
        )
        held += low <= 0.7 <= high
    assert 180 <= held <= 200


def test_resamples_depend_on_the_seed() -> None:
    targets, predictions = answers("classification", 100, 3, 0)
    first, again, other = (
        bootstrap_scores("macro_f1", "classification", targets, [predictions], num_labels=3, seed=seed)[0]
        for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_many_rows_give_a_narrow_interval() -> None:
    targets, predictions = answers("classification", 200_000, 2, 0)
    low, high = bootstrap_interval("accuracy", "classification", targets, predictions, num_labels=2)
    assert low < score("accuracy", "classification", targets, predictions) < high
    assert high - low < 0.006


def test_equal_answers_do_not_differ() -> None:
    targets, predictions = answers("classification", 50, 2, 0)
    found = paired_test("accuracy", "classification", targets, predictions, predictions, num_labels=2)
    assert (found.difference, found.low, found.high, found.p_value, found.num_apart) == (0, 0, 0, 1, 0)
    assert not found.is_more_than_chance


def test_a_clear_difference_is_significant_in_both_directions() -> None:
    targets = [0, 1] * 200
    worse = [1 - target if row % 3 == 0 else target for row, target in enumerate(targets)]
    up = paired_test("f1", "classification", targets, worse, targets, num_labels=2)
    down = paired_test("f1", "classification", targets, targets, worse, num_labels=2)
    assert up.is_more_than_chance
    assert up.low > 0.2
    assert (down.difference, down.p_value) == (-up.difference, up.p_value)
    assert (down.low, down.high) == pytest.approx((-up.high, -up.low), abs=0.02)


def test_five_rows_in_favour_of_one_side_are_not_significant() -> None:
    targets = [1] * 100
    for num_better, is_more in ((5, False), (6, True)):
        worse = [0] * num_better + targets[num_better:]
        found = paired_test("accuracy", "classification", targets, worse, targets, num_labels=2)
        assert found.num_apart == num_better
        assert found.is_more_than_chance is is_more


def test_the_false_positive_rate_is_about_one_in_twenty() -> None:
    draw = random.Random(1)
    found = 0
    for _ in range(200):
        targets = [draw.randrange(2) for _ in range(150)]
        first, second = ([t if draw.random() < 0.8 else 1 - t for t in targets] for _ in range(2))
        found += paired_test(
            "accuracy", "classification", targets, first, second, num_labels=2, resamples=400
        ).is_more_than_chance
    assert found <= 22


def test_correlations_are_compared_too() -> None:
    draw = random.Random(0)
    targets = [draw.gauss(0, 1) for _ in range(300)]
    near, far = ([target + draw.gauss(0, noise) for target in targets] for noise in (0.2, 2.0))
    for metric in ("pearson", "spearman"):
        found = paired_test(metric, "regression", targets, far, near, num_labels=0)
        assert found.is_more_than_chance
        assert found.difference == pytest.approx(
            score(metric, "regression", targets, near) - score(metric, "regression", targets, far)
        )


def test_a_metric_of_another_kind_is_refused() -> None:
    with pytest.raises(RecipeError, match="'pearson' is for regression"):
        bootstrap_interval("pearson", "classification", [0, 1], [0, 1], num_labels=2)


# -- differences between methods over tasks and seeds -----------------------------------------------------------------


def test_the_bootstrap_over_tasks_is_that_of_scipy_where_seeds_do_not_differ() -> None:
    differences = [-3.0, 1.0, 0.5, -0.2, 2.0, -1.5, 0.1, 0.7]
    ours = nested_bootstrap_interval([[value] * 3 for value in differences])
    theirs = scipy.stats.bootstrap((differences,), np.mean, method="percentile", n_resamples=10_000, rng=0)
    assert ours == pytest.approx(theirs.confidence_interval, abs=0.1)


def test_seeds_that_differ_widen_the_interval() -> None:
    spreads = ([[value - spread, value + spread] for value in range(5)] for spread in (0, 3))
    narrow, wide = map(nested_bootstrap_interval, spreads)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_the_interval_over_seeds_is_students() -> None:
    differences = [2.0, 1.9, 1.7]
    expected = scipy.stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert student_interval(differences) == pytest.approx(tuple(expected))
    assert student_interval([2.0]) is None
