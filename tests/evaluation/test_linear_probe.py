"""A probe is scikit-learn's fit on vectors as they are, with a strength that cross-validation chose."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from polytask.evaluation.linear_probe import ABSENT, FOLDS, USUAL_STRENGTH, _folds, fit_probe

RNG = np.random.default_rng(0)


def drawn(rows: int, classes: int, width: int = 8) -> tuple[np.ndarray, list[int]]:
    """Vectors around a mean for each class, far from the origin."""
    targets = [row % classes for row in range(rows)]
    means = 2 * RNG.normal(size=(classes, width))
    return 5 + means[targets] + RNG.normal(size=(rows, width)), targets


@pytest.mark.parametrize("classes", [2, 3])
def test_it_answers_as_scikit_learn_does_on_standardised_vectors(classes: int) -> None:
    x, y = drawn(90, classes)
    probe = fit_probe("classification", x, y, classes)
    scaled = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0).mean())
    model = LogisticRegression(C=probe.strength, max_iter=1000).fit(scaled, y)
    logits = x @ probe.weight.T + probe.bias
    own = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(own, model.predict_proba(scaled), atol=1e-6)


def test_a_label_without_training_rows_is_never_likeliest() -> None:
    x, y = drawn(40, 2)
    probe = fit_probe("classification", x, [2 * label for label in y], 3)
    assert set((x @ probe.weight.T + probe.bias).argmax(axis=1)) == {0, 2}
    assert probe.bias[1] < min(probe.bias[0], probe.bias[2]) or not probe.weight[1].any()


def test_of_one_label_every_vector_has_it_and_of_many_nothing_is_warned_of(recwarn: pytest.WarningsRecorder) -> None:
    x, _ = drawn(12, 2)
    probe = fit_probe("classification", x, [1] * 12, 3)
    assert set((x @ probe.weight.T + probe.bias).argmax(axis=1)) == {1}
    fit_probe("classification", x, range(12), 12)
    assert not recwarn.list


def test_logit_adjustment_takes_the_logarithm_of_each_share_off() -> None:
    x, _ = drawn(60, 3)
    y = [0] * 40 + [1] * 15 + [2] * 5
    plain, adjusted = (fit_probe("classification", x, y, 3, class_weights=own) for own in (None, "logit-adjusted"))
    np.testing.assert_allclose(plain.weight, adjusted.weight)
    np.testing.assert_allclose(plain.bias - adjusted.bias, np.log(np.array([40, 15, 5]) / 60))


def test_each_of_several_labels_has_a_fit_of_its_own() -> None:
    x, y = drawn(60, 2)
    targets = [(0, 2) if label else (2,) for label in y]
    probe = fit_probe("multilabel", x, targets, 3)
    alone = fit_probe("classification", x, y, 2)
    np.testing.assert_allclose(probe.weight[0], alone.weight[1] - alone.weight[0], atol=1e-9)
    assert list(probe.bias[1:]) == [-ABSENT, ABSENT]


def test_numbers_are_fitted_by_ridge_regression() -> None:
    x = RNG.normal(size=(200, 5))
    y = x @ np.array([1.0, -2.0, 0.5, 0.0, 3.0]) + 4
    probe = fit_probe("regression", x, list(y), 1)
    np.testing.assert_allclose(x @ probe.weight[0] + probe.bias, y, atol=0.2)


def test_windows_of_a_row_stay_in_one_fold_and_rare_classes_are_always_trained_on() -> None:
    rows = np.repeat(np.arange(24), 2)
    labels = np.array([0] * 11 + [1] * 11 + [2] * 2)[rows]
    fold = _folds(labels, rows)
    assert fold is not None
    assert (fold[0::2] == fold[1::2]).all()
    assert set(fold) == {-1, *range(FOLDS)}
    assert (fold[labels == 2] == -1).all()
    assert (fold[labels != 2] >= 0).all()


def test_too_few_rows_to_choose_from_take_the_usual_strength() -> None:
    x, y = drawn(6, 2)
    assert fit_probe("classification", x, y, 2).strength == USUAL_STRENGTH
