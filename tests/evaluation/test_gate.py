"""A gate lets through what is no worse, and refuses what is worse or not known well enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from polytask.adapters.promotions import promotions, record_decision, roll_back
from polytask.adapters.store import Store
from polytask.errors import RecipeError, StoreError
from polytask.evaluation.gate import Gate, Verdict
from polytask.evaluation.metrics import score
from tests.samples import created


def judged(gate: Gate, wrong_before: int, wrong_after: int, rows: int) -> Verdict:
    """Of two versions that are wrong on the last and the first rows."""
    targets = [0, 1] * (rows // 2)
    before = [1 - own if row >= rows - wrong_before else own for row, own in enumerate(targets)]
    after = [1 - own if row < wrong_after else own for row, own in enumerate(targets)]
    found = gate.judge("accuracy", "classification", targets, before, after, num_labels=2)
    assert found.score == score("accuracy", "classification", targets, after, num_labels=2)
    return found


def test_a_worse_version_is_refused_by_either_rule() -> None:
    for rule in ("not-worse", "better"):
        found = judged(Gate(rule), 20, 60, 400)
        assert (found.is_allowed, found.difference) == (False, pytest.approx(-0.1))


def test_a_better_version_passes_both_and_an_equal_one_only_not_worse() -> None:
    assert judged(Gate("better"), 60, 20, 400).is_allowed
    assert judged(Gate("not-worse"), 60, 20, 400).is_allowed
    assert judged(Gate("not-worse"), 0, 0, 400).is_allowed
    assert not judged(Gate("better"), 0, 0, 400).is_allowed


def test_what_few_rows_leave_open_is_refused() -> None:
    found = judged(Gate("not-worse"), 3, 3, 20)
    assert not found.is_allowed
    assert "More rows would narrow the interval" in found.why
    assert judged(Gate("not-worse", 0.9), 3, 3, 20).is_allowed
    with pytest.raises(RecipeError, match="out of range"):
        Gate("not-worse", 1.5)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three versions of spam."""
    store = Store(tmp_path)
    for seed in range(3):
        store.put(created(seed=seed))
    return store


def test_a_decision_moves_the_alias_and_is_kept_and_a_rollback_undoes_it(store: Store) -> None:
    record_decision(store, "spam", "prod", None, 1, {"why": "new"}, moves=True)
    record_decision(store, "spam", "prod", 1, 2, {"why": "worse"}, moves=False)
    assert store.entry("spam@prod").version == 1
    record_decision(store, "spam", "prod", 1, 3, {"why": "better"}, moves=True)
    assert store.entry("spam@prod").version == 3
    assert [(own["version"], own["moved"], own["why"]) for own in promotions(store, "spam")] == [
        (1, True, "new"),
        (2, False, "worse"),
        (3, True, "better"),
    ]
    assert roll_back(store, "spam", "prod") == (1, 3)
    assert store.entry("spam@prod").version == 1
    with pytest.raises(StoreError, match="nothing to go back to"):
        roll_back(store, "spam", "prod")
    assert store.verify() == []


def test_an_alias_that_was_moved_meanwhile_stays(store: Store) -> None:
    store.alias("spam@2", "prod")
    with pytest.raises(StoreError, match="moved to version 2 in the meantime"):
        record_decision(store, "spam", "prod", 1, 3, {}, moves=True)
    assert store.entry("spam@prod").version == 2
    assert promotions(store, "spam") == []
