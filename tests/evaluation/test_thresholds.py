"""Thresholds hold what they are chosen for, on other rows too; what cannot be held is said."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from polytask.errors import AdapterError, RecipeError, RouteError
from polytask.evaluation.decision import Decision
from polytask.evaluation.selective import accuracy_by_coverage, measured_answers
from polytask.evaluation.thresholds import Goal, Thresholds, choose_thresholds, lower_bound, thresholds_from_json

LABELS = ("a", "b", "c")
Drawn = tuple[list[list[float]], list[int]]


def drawn(rows: int, seed: int) -> Drawn:
    """Probabilities of three classes, and targets drawn by them."""
    generator = np.random.default_rng(seed)
    probs = generator.dirichlet((0.25, 0.25, 0.25), size=rows)
    return probs.tolist(), [int(generator.choice(3, p=p)) for p in probs]


def test_the_lower_bound_is_that_of_clopper_and_pearson() -> None:
    for hits, rows in ((0, 5), (5, 5), (59, 59), (90, 100)):
        low = binomtest(hits, rows).proportion_ci(0.90, method="exact").low
        assert float(lower_bound(hits, rows)) == pytest.approx(low, abs=1e-9)


@pytest.mark.parametrize("goal", [Goal("precision", 0.9), Goal("recall", 0.6), Goal("coverage", 0.7)])
def test_what_a_threshold_is_chosen_for_holds_on_new_rows(goal: Goal) -> None:
    probs, targets = drawn(20_000, seed=1)
    shares = []
    for seed in range(2, 12):
        found = choose_thresholds(goal, "classification", LABELS, *drawn(400, seed))
        assert found.thresholds is not None
        shares.append(measured_answers(Decision("classification", LABELS, None, found.thresholds), probs, targets))
    missed = sum(of[goal.aim][0] < goal.target for of in shares)
    assert missed <= 2
    spare = "coverage" if goal.aim == "precision" else "precision"
    everything = measured_answers(Decision("classification", LABELS), probs, targets)
    assert all(of[spare][0] > (0.3 if spare == "coverage" else everything["precision"][0]) for of in shares)


def test_a_threshold_for_each_label_holds_for_each() -> None:
    probs, targets = drawn(3000, seed=3)
    found = choose_thresholds(Goal("precision", 0.85, per_label=True), "classification", LABELS, probs, targets)
    assert found.thresholds is not None
    assert len(set(found.thresholds.values)) == 3
    decision = Decision("classification", LABELS, None, found.thresholds)
    new, truth = drawn(20_000, seed=4)
    given = [decision.of(row).label for row in new]
    for label in range(3):
        own = [row for row, answer in enumerate(given) if answer == label]
        assert sum(truth[row] == label for row in own) / len(own) > 0.84


def test_what_cannot_be_held_is_said_and_not_done() -> None:
    found = choose_thresholds(Goal("precision", 0.95), "classification", LABELS, *drawn(40, seed=0))
    assert found.thresholds is None
    assert "no threshold reaches precision 0.95 with 95% confidence on 40 validation rows" in found.notes[0]


def test_a_label_that_never_holds_is_named_and_never_answered() -> None:
    probs = [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05]] * 200
    found = choose_thresholds(Goal("precision", 0.9, per_label=True), "classification", LABELS, probs, [0, 2] * 200)
    assert found.thresholds is not None
    assert found.thresholds.values[1:] == (None, None)
    assert "b, c" in found.notes[0]
    decision = Decision("classification", LABELS, None, found.thresholds)
    assert decision.of([0.95, 0.03, 0.02]).label == 0
    assert decision.of([0.0, 1.0, 0.0]).abstained


def test_of_several_labels_the_best_f1_is_found_where_a_half_finds_nothing() -> None:
    generator = np.random.default_rng(0)
    p = generator.random(4000) * 0.4
    targets = [(0,) if u < own else () for u, own in zip(generator.random(4000), p, strict=True)]
    found = choose_thresholds(Goal("f1", None, per_label=True), "multilabel", ("rare",), [[own] for own in p], targets)
    assert found.thresholds is not None
    decision = Decision("multilabel", ("rare",), None, found.thresholds)
    best = measured_answers(decision, [[own] for own in p], targets)
    assert best["recall"][0] > 0.5
    assert measured_answers(Decision("multilabel", ("rare",)), [[own] for own in p], targets)["recall"][0] == 0
    tried = []
    for cut in np.linspace(0, 0.4, 200):
        held = p >= cut
        hits = sum(own and bool(target) for own, target in zip(held, targets, strict=True))
        tried.append(2 * hits / (held.sum() + sum(map(bool, targets))))
    f1 = 2 / (1 / best["precision"][0] + 1 / best["recall"][0])
    assert f1 >= max(tried)


def test_an_answer_below_its_threshold_is_none_with_its_probabilities() -> None:
    decision = Decision("classification", ("x", "y"), None, Thresholds("precision", 0.9, (0.6, 0.8), 100))
    assert decision.of([0.7, 0.3]).label == 0
    below = decision.of([0.3, 0.7])
    assert (below.label, below.abstained, below.probs) == (None, True, [0.3, 0.7])
    assert decision.asked(abstain=False).of([0.3, 0.7]).label == 1
    assert decision.asked(threshold=0.65).of([0.3, 0.7]).label == 1
    assert decision.asked(threshold=0.75).of([0.7, 0.3]).abstained
    with pytest.raises(RouteError, match="must be between 0 and 1"):
        decision.asked(threshold=1.5)
    with pytest.raises(RouteError, match="must be between 0 and 1"):
        Decision("regression", ()).asked(threshold=0.5)


def test_the_curve_falls_as_more_is_answered() -> None:
    points = accuracy_by_coverage(*drawn(5000, seed=5))
    assert [point[0] for point in points] == [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert points[-1][1] > points[4][1] > points[0][1]
    assert all(one[2] <= other[2] for one, other in itertools.pairwise(points))


def test_goals_that_are_none_are_refused() -> None:
    for wrong in (("precision", None), ("precision", 1.0), ("f1", 0.5), ("speed", 0.5)):
        with pytest.raises(RecipeError):
            Goal(*wrong)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="this task is regression"):
        Goal("precision", 0.9).check("regression")
    with pytest.raises(RecipeError, match="no threshold for f1"):
        Goal("f1").check("classification")


def test_what_is_written_is_read_and_all_else_refused() -> None:
    own = Thresholds("precision", 0.9, (0.6, None), 100)
    given = own.to_json()
    assert thresholds_from_json(given, "classification", 2) == own
    wrong = (
        {"values": [0.5]},
        {"values": [0.5, 2.0]},
        {"values": [0.5, "x"]},
        {"rows": 0},
        {"goal": "f1"},
        {"more": 1},
    )
    for change in wrong:
        with pytest.raises(AdapterError, match="'thresholds'"):
            thresholds_from_json({**given, **change}, "classification", 2)
