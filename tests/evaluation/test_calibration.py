"""Calibrations: their arithmetic, what they never change, what they refuse."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.calibration import calibration_curve

from polytask.errors import AdapterError
from polytask.evaluation.calibration import Conformal, Platt, Temperature, calibration_from_json, logit
from polytask.evaluation.calibration_fit import cross_fitted_probabilities, fit_calibration
from polytask.evaluation.decision import Decision
from polytask.evaluation.reliability import coverage, reliability

LABELS = ("x", "y", "z")
Rows = tuple[list[list[float]], list[int]]


def overconfident(rows: int, temperature: float, seed: int = 0) -> Rows:
    """Probabilities of a head whose logits are ``temperature`` times too large, and labels drawn by the true ones."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(rows, 3)) * 2
    targets = [int(generator.choice(3, p=p)) for p in softmax(logits, axis=1)]
    return softmax(logits * temperature, axis=1).astype(np.float32).tolist(), targets


def test_a_temperature_is_found_again() -> None:
    scores, targets = overconfident(5000, 2.5)
    found = fit_calibration("classification", LABELS, scores, targets).calibration
    assert isinstance(found, Temperature)
    assert found.rows == 5000
    assert found.temperature == pytest.approx(2.5, rel=0.05)


def test_a_temperature_divides_the_logits() -> None:
    logits = np.array([3.0, -1.0, 0.5])
    given = Temperature(50, 1.7).probabilities(softmax(logits).tolist())
    np.testing.assert_allclose(given, softmax(logits / 1.7), rtol=1e-12)


def test_where_all_rows_are_right_no_probability_becomes_one() -> None:
    scores, targets = [[0.9, 0.06, 0.04], [0.05, 0.9, 0.05]] * 50, [0, 1] * 50
    found = fit_calibration("classification", LABELS, scores, targets).calibration
    assert isinstance(found, Temperature)
    assert 0.97 < max(found.probabilities(scores[0])) < 1 - 1 / 200


@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 3.0, 20.0])
def test_no_label_changes_by_a_temperature(temperature: float) -> None:
    generator = random.Random(0)
    plain = Decision("classification", LABELS)
    decision = Decision("classification", LABELS, Temperature(50, temperature))
    for _ in range(2000):
        near = generator.random() / 3
        row = [near, near * (1 + generator.choice([0, 1e-7, 1e-3, 1])), 1 / 3]
        scores = [p / sum(row) for p in row]
        assert decision.of(scores).label == plain.of(scores).label
        assert math.fsum(decision.of(scores).probs or ()) == pytest.approx(1)


def test_of_several_labels_the_half_goes_through_the_same_map() -> None:
    own = Platt(60, (0.5, 2.0), (-1.0, 0.7))
    decision = Decision("multilabel", ("a", "b"), own)
    for p in (0.01, 0.499999, 0.5, 0.500001, 0.99):
        decided = decision.of([p, 1 - p])
        assert decided.labels == Decision("multilabel", ("a", "b")).of([p, 1 - p]).labels
        np.testing.assert_allclose(decided.probs, expit([0.5 * logit(p) - 1.0, 2 * logit(1 - p) + 0.7]), rtol=1e-9)
        if abs(p - 0.5) > 1e-7:
            assert decided.labels == tuple(
                k for k, (prob, cut) in enumerate(zip(decided.probs or (), own.cuts(2), strict=True)) if prob >= cut
            )


def test_slope_and_offset_are_found_again_and_labels_of_few_rows_are_left_and_named() -> None:
    generator = np.random.default_rng(0)
    z = generator.normal(size=20_000)
    held = generator.random(20_000) < expit(0.4 * z - 1.2)
    rare = np.zeros(20_000, bool)
    rare[:3] = True
    targets = [tuple(np.flatnonzero(row)) for row in np.stack([held, rare], axis=1)]
    found = fit_calibration("multilabel", ("often", "rare"), np.stack([expit(z), expit(z)], axis=1).tolist(), targets)
    assert isinstance(found.calibration, Platt)
    assert found.calibration.slopes == pytest.approx((0.4, 1.0), abs=0.05)
    assert found.calibration.offsets == pytest.approx((-1.2, 0.0), abs=0.05)
    assert "'rare'" in found.notes[0]


def test_an_interval_holds_its_share_of_new_rows() -> None:
    generator = np.random.default_rng(1)
    shares = []
    for _ in range(300):
        noise = generator.standard_t(3, size=100 + 50)
        found = fit_calibration("regression", (), [[0.0]] * 100, noise[:100].tolist()).calibration
        assert isinstance(found, Conformal)
        shares.append(coverage(found, [[0.0]] * 50, noise[100:].tolist())["coverage"][0])
    assert np.mean(shares) == pytest.approx(91 / 101, abs=0.015)  # exactly ⌈(n + 1) · 0.9⌉ / (n + 1)


def test_what_there_are_too_few_rows_for_is_said_and_not_done() -> None:
    few = fit_calibration("classification", LABELS, *overconfident(49, 2.0))
    assert few.calibration is None
    assert "49 validation rows are too few" in few.notes[0]
    assert fit_calibration("classification", LABELS, *overconfident(50, 2.0)).calibration is not None
    assert fit_calibration("regression", (), [[0.0]] * 19, [1.0] * 19).calibration is None
    assert fit_calibration("multilabel", ("a",), [[0.2]] * 50, [(0,)] * 9 + [()] * 41).calibration is None
    assert fit_calibration("span", (), [], []) == fit_calibration("span", (), [], [])
    assert fit_calibration("classification", LABELS, [[math.nan] * 3] * 60, [0] * 60).calibration is None


def test_errors_are_those_of_their_definitions() -> None:
    scores, targets = overconfident(600, 3.0)
    table = np.array(scores)
    found = reliability("classification", scores, targets)
    truth = np.eye(3)[targets]
    assert found.brier.value == pytest.approx(((table - truth) ** 2).sum(axis=1).mean())
    right, top = table.argmax(axis=1) == targets, table.max(axis=1)
    share, mean = calibration_curve(right, top, n_bins=15)
    rows = np.array([of.rows for of in found.bins])
    np.testing.assert_allclose([of.right for of in found.bins], share)
    np.testing.assert_allclose([of.probability for of in found.bins], mean)
    assert found.ece.value == pytest.approx((rows * abs(share - mean)).sum() / 600)
    assert found.ece.low < found.ece.value < found.ece.high
    assert found.brier.low < found.brier.value < found.brier.high


def test_calibration_lowers_both_errors_on_new_rows_and_cross_fitted_ones() -> None:
    scores, targets = overconfident(2000, 3.0)
    fitted = fit_calibration("classification", LABELS, scores[:400], targets[:400]).calibration
    assert fitted is not None
    before = reliability("classification", scores[400:], targets[400:])
    after = reliability("classification", [fitted.probabilities(row) for row in scores[400:]], targets[400:])
    assert after.ece.high < before.ece.low
    assert after.brier.value < before.brier.value
    crossed = cross_fitted_probabilities("classification", LABELS, scores[:400], targets[:400])
    assert reliability("classification", crossed, targets[:400]).ece.value < before.ece.value


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("classification", {"kind": "platt", "slopes": [1.0], "offsets": [0.0], "rows": 9}, "it can be temperature"),
        ("classification", {"kind": "temperature", "temperature": 0.0, "rows": 9}, "between 0.01 and 100"),
        ("classification", {"kind": "temperature", "temperature": "1", "rows": 9}, "temperature is '1'"),
        ("classification", {"kind": "temperature", "temperature": [1.0], "rows": 9}, "wrong type"),
        ("classification", {"kind": "temperature", "temperature": 1.0, "rows": 0}, "wrong type"),
        ("classification", {"kind": "temperature", "temperature": 1.0}, "'rows'"),
        ("classification", {"kind": "temperature", "temperature": 1.0, "rows": 9, "more": 1}, "'more'"),
        ("multilabel", {"kind": "platt", "slopes": [1.0], "offsets": [0.0], "rows": 9}, "for 2 labels"),
        ("multilabel", {"kind": "platt", "slopes": [1.0, -1.0], "offsets": [0.0, 0.0], "rows": 9}, "positive"),
        ("multilabel", {"kind": "platt", "slopes": 1.0, "offsets": [0.0, 0.0], "rows": 9}, "wrong type"),
        ("regression", {"kind": "conformal", "level": 0.9, "radius": -1.0, "rows": 9}, "not a distance"),
        ("regression", {"kind": "conformal", "level": 1.0, "radius": 1.0, "rows": 9}, "not a share"),
        ("span", {"kind": "temperature", "temperature": 1.0, "rows": 9}, "it can be none"),
    ],
)
def test_a_calibration_that_is_none_is_refused(kind: str, given: dict[str, object], said: str) -> None:
    with pytest.raises(AdapterError, match=said):
        calibration_from_json(given, kind, 2)  # type: ignore[arg-type]


def test_what_is_written_is_read() -> None:
    for own, kind in ((Temperature(9, 1.5), "classification"), (Platt(9, (1.0, 2.0), (0.0, -1.0)), "multilabel")):
        assert calibration_from_json(own.to_json(), kind, 2) == own  # type: ignore[arg-type]
