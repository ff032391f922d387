"""Confident learning against a joint that was computed by hand, and against rows whose labels were changed."""

from __future__ import annotations

import numpy as np
import pytest

from polytask.evaluation.confident_learning import Suspect, find_label_errors


def test_the_joint_is_the_one_computed_by_hand() -> None:
    # Given 0: thresholds mean(0.9, 0.8, 0.1) = 0.6; given 1: mean(0.7, 0.9, 0.2) = 0.6.
    probs = [(0.9, 0.1), (0.8, 0.2), (0.1, 0.9), (0.3, 0.7), (0.1, 0.9), (0.8, 0.2)]
    errors = find_label_errors(probs, [0, 0, 0, 1, 1, 1])
    # Confident counts [[2, 1], [1, 2]], scaled to 3 rows of each label, over 6 rows.
    np.testing.assert_allclose(errors.joint, [[2 / 6, 1 / 6], [1 / 6, 2 / 6]])
    assert errors.share == pytest.approx(1 / 3)
    assert [(own.row, own.given, own.likely) for own in errors.suspects] == [(2, 0, 1), (5, 1, 0)]
    assert [own.margin for own in errors.suspects] == pytest.approx([0.8, 0.6])


def test_a_row_below_every_threshold_counts_for_no_label() -> None:
    # Thresholds 0.7 and 0.8: the second row reaches neither, so label 0 keeps two of three rows, scaled to three.
    probs = [(0.8, 0.2), (0.45, 0.55), (0.85, 0.15), (0.2, 0.8)]
    errors = find_label_errors(probs, [0, 0, 0, 1])
    np.testing.assert_allclose(errors.joint, [[3 / 4, 0], [0, 1 / 4]])
    assert errors.suspects == ()


def test_an_unsure_label_is_judged_by_its_own_threshold() -> None:
    # Label 1 is never likelier than 0.5, so a row of label 0 with 0.45 for label 1 counts for both; the larger wins.
    probs = [(0.9, 0.1), (0.7, 0.3), (0.55, 0.45), (0.6, 0.4)]
    assert find_label_errors(probs, [0, 0, 1, 1]).suspects == ()


def test_a_label_without_rows_has_no_suspects() -> None:
    errors = find_label_errors([(0.1, 0.2, 0.7), (0.2, 0.7, 0.1)], [0, 1])
    assert errors.joint[2] == (0.0, 0.0, 0.0)
    assert all(own.likely != 2 for own in errors.suspects)


def test_changed_labels_are_found() -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(3, size=300)
    probs = generator.dirichlet((1, 1, 1), size=300) * 0.3
    probs[np.arange(300), true] += 0.7
    given = true.copy()
    changed = generator.choice(300, size=30, replace=False)
    given[changed] = (given[changed] + 1) % 3
    errors = find_label_errors(probs.tolist(), given.tolist())
    found = {own.row for own in errors.suspects}
    assert found <= set(changed.tolist())
    assert len(found) >= 20, "rows that the model is less sure of than of others may be missed"
    assert all(own.likely == true[own.row] for own in errors.suspects)
    assert errors.share == pytest.approx(0.1, abs=0.03)
    assert sum(map(sum, errors.joint)) == pytest.approx(1)
    assert isinstance(errors.suspects[0], Suspect)
