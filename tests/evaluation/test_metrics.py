"""Metrics equal their formulas; undefined ones are 0."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.metric_names import METRIC_KINDS, check_metric, default_metric, metrics_for
from polytask.data.task import Answer
from polytask.errors import RecipeError, UnknownName
from polytask.evaluation.metrics import METRICS, all_scores, score

EXTREMES = {
    "classification": ([0, 1, 2, 1, 0], [0, 1, 2, 1, 0]),
    "multilabel": ([(0,), (1, 2), ()], [(0,), (1, 2), ()]),
    "regression": ([0.5, 1.0, 4.0], [0.5, 1.0, 4.0]),
}


@pytest.mark.parametrize("kind", EXTREMES)
def test_correct_predictions_score_one_by_every_metric(kind):
    scores = all_scores(kind, *EXTREMES[kind])
    assert list(scores) == metrics_for(kind)
    assert scores == pytest.approx(dict.fromkeys(scores, 1.0))


def test_each_kind_has_its_default():
    assert [default_metric(kind) for kind in ("classification", "multilabel", "regression")] == [
        "accuracy",
        "micro_f1",
        "pearson",
    ]


def test_accuracy_is_the_share_of_right_rows():
    assert score("accuracy", "classification", [0, 1, 1, 1], [0, 1, 0, 0]) == 0.5


def test_f1_of_two_labels_is_that_of_index_1():
    targets, predictions = [1, 1, 1, 0, 0], [1, 0, 0, 1, 0]  # 1 right, 2 missed, 1 false
    assert score("f1", "classification", targets, predictions) == pytest.approx(2 / (2 + 2 + 1))


def test_f1_of_more_labels_is_their_mean():
    targets, predictions = [0, 1, 2, 2], [0, 1, 2, 1]
    by_hand = (1.0 + 2 / 3 + 2 / 3) / 3
    assert score("f1", "classification", targets, predictions) == pytest.approx(by_hand)
    assert score("macro_f1", "classification", targets, predictions) == pytest.approx(by_hand)


def test_f1_of_three_labels_stays_a_mean_where_only_two_occur():
    two = score("f1", "classification", [0, 1, 1], [0, 1, 0])
    three = score("f1", "classification", [0, 1, 1], [0, 1, 0], num_labels=3)
    assert two == three  # F1 of label 1 and the mean agree here, by symmetry
    assert score("f1", "classification", [0, 0, 1], [0, 0, 0]) == 0.0
    assert score("f1", "classification", [0, 0, 1], [0, 0, 0], num_labels=3) == pytest.approx(0.4)


def test_matthews_equals_the_formula():
    targets, predictions = [1] * 6 + [0] * 4, [1, 1, 1, 1, 0, 0, 1, 0, 0, 0]
    tp, fn, fp, tn = 4, 2, 1, 3
    by_hand = (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    assert score("matthews", "classification", targets, predictions) == pytest.approx(by_hand)


def test_multilabel_f1s_equal_the_counts():
    targets, predictions = [(0, 1), (1,), ()], [(0,), (1, 2), ()]
    assert score("micro_f1", "multilabel", targets, predictions) == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert score("macro_f1", "multilabel", targets, predictions) == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_multilabel_rows_that_rightly_have_no_label_score_one():
    assert all_scores("multilabel", [(), ()], [(), ()]) == {"micro_f1": 1.0, "macro_f1": 1.0}


def test_a_single_multilabel_label_is_scored_alone():
    assert score("micro_f1", "multilabel", [(0,), (), (0,)], [(0,), (0,), ()]) == pytest.approx(0.5)


def test_spearman_depends_only_on_ranks_and_pearson_on_linearity():
    targets, predictions = [1.0, 2.0, 3.0, 4.0], [1.0, 10.0, 100.0, 1000.0]
    assert score("spearman", "regression", targets, predictions) == pytest.approx(1.0)
    assert score("pearson", "regression", targets, predictions) < 0.95
    assert score("pearson", "regression", targets, [-t for t in targets]) == pytest.approx(-1.0)


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
@pytest.mark.parametrize("predictions", [[2.0, 2.0, 2.0], [1.0, float("nan"), 2.0], [1.0, float("inf"), 2.0]])
def test_a_correlation_that_is_not_defined_is_zero_and_silent(metric, predictions):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert score(metric, "regression", [1.0, 2.0, 3.0], predictions) == 0.0
        assert score(metric, "regression", [1.0], [1.0]) == 0.0


def test_constant_predictions_are_scored_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = all_scores("classification", [0, 1, 0, 0], [0, 0, 0, 0])
    assert scores["matthews"] == scores["f1"] == 0.0
    assert scores["accuracy"] == 0.75


def test_arrays_score_like_lists():
    targets, predictions = [0, 1, 2, 2], [0, 1, 1, 2]
    assert all_scores("classification", np.array(targets), np.array(predictions)) == all_scores(
        "classification", targets, predictions
    )


def test_an_unknown_metric_is_refused_with_a_suggestion():
    with pytest.raises(UnknownName, match=r"no metric called 'acuracy'\. Did you mean 'accuracy'\?"):
        score("acuracy", "classification", [0], [0])


def test_a_metric_of_another_kind_is_refused_with_those_that_fit():
    with pytest.raises(RecipeError, match=r"this is a regression task\. Its metrics are: pearson, spearman"):
        check_metric("accuracy", "regression")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_every_classification_score_is_in_its_range(rows):
    for name, value in all_scores("classification", *map(list, zip(*rows)), num_labels=4).items():
        assert (-1 if name == "matthews" else 0) <= value <= 1 + 1e-12


@given(st.lists(st.tuples(*[st.sets(st.integers(0, 3)).map(lambda s: tuple(sorted(s)))] * 2), min_size=1))
def test_every_multilabel_score_is_in_its_range(rows):
    assert all(0 <= value <= 1 for value in all_scores("multilabel", *map(list, zip(*rows)), num_labels=4).values())


def test_every_metric_fits_some_kind_and_is_found_by_its_own_name():
    assert METRICS.keys() == METRIC_KINDS.keys()
    assert all(METRIC_KINDS.values())


def test_importing_tasks_imports_nothing_heavy():
    heavy = "torch sklearn scipy pyarrow pandas datasets transformers numpy".split()
    code = f"import sys, polytask.data.hub, polytask.data.read; print([m for m in {heavy} if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"


def test_spans_are_scored_against_all_correct_answers():
    right = [(Answer("Denver", 0), Answer("the Broncos", 4)), (Answer("fifty points", 9),), (Answer("x", 0),)]
    given = [(Answer("Broncos.", 8),), (Answer("fifty", 9),), ()]
    assert score("span_f1", "span", right, given) == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert all_scores("span", right, given) == {"span_f1": pytest.approx(5 / 9), "exact_match": pytest.approx(1 / 3)}
    assert default_metric("span") == "span_f1"
