"""Held-out rows are stratified, grouped and reproducible."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.splits import hold_out, hold_out_groups, sample_rows
from polytask.data.task import Rows
from polytask.errors import RecipeError


def rows(targets, texts=None):
    return Rows(texts or [f"text {row}" for row in range(len(targets))], None, targets)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(0, 3), st.floats(0.01, 0.5))
def test_each_row_is_on_one_side_and_each_class_has_its_share(targets, seed, share):
    train, validation = hold_out(rows(targets), "classification", share=share, seed=seed)
    assert sorted(train + validation) == list(range(len(targets)))
    for label in set(targets):
        count, held_out = targets.count(label), sum(targets[row] == label for row in validation)
        assert held_out == (0 if count == 1 else max(1, round(share * count)))


def test_the_split_depends_on_the_seed_alone():
    data = rows([0, 1] * 100)
    first = hold_out(data, "classification", seed=0)
    assert first == hold_out(data, "classification", seed=0)
    assert first != hold_out(data, "classification", seed=1)
    assert first[1][:5] == [3, 18, 23, 24, 37]  # the same on every machine


def test_rows_with_equal_texts_stay_together():
    texts = [f"text {row % 50}" for row in range(200)]
    train, validation = hold_out(rows([0] * 100 + [1] * 100, texts), "classification")
    assert len(validation) == 20
    for half in (range(100), range(100, 200)):
        assert not {texts[r] for r in train if r in half} & {texts[r] for r in validation if r in half}


def test_a_class_with_a_single_repeated_text_is_split():
    train, validation = hold_out(rows([0, 1] * 20, ["bad", "good"] * 20), "classification")
    assert len(train) == 36
    assert len(validation) == 4


def test_a_much_repeated_text_is_not_held_out_whole():
    texts = ["again"] * 90 + [f"text {row}" for row in range(10)]
    train, validation = hold_out(rows([0] * 100, texts), "classification")
    assert len(train) >= 90
    assert len(validation) >= 1


def test_no_more_than_2000_rows_are_held_out():
    assert len(hold_out(rows([0, 1, 2, 3] * 10_000), "classification")[1]) == 2000


def test_a_rare_label_is_on_both_sides():
    targets = [(0,)] * 50 + [(0, 1)] * 50 + [(0, 2)] * 2
    train, validation = hold_out(rows(targets), "multilabel")
    assert any(2 in targets[row] for row in train)
    assert any(2 in targets[row] for row in validation)


def test_a_regression_is_split_as_one_class():
    assert len(hold_out(rows([row / 7 for row in range(100)]), "regression", share=0.2)[1]) == 20


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(RecipeError, match="must be between 0 and 1"):
        hold_out(rows([0, 1]), "classification", share=share)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=200), st.integers(0, 3), st.floats(0.01, 0.5))
def test_a_group_is_held_out_whole_or_not_at_all(groups, seed, share):
    train, validation = hold_out_groups(groups, share=share, seed=seed)
    assert sorted(train + validation) == list(range(len(groups)))
    assert train
    assert validation
    if len(set(groups)) > 1:
        assert not {groups[row] for row in train} & {groups[row] for row in validation}


def test_groups_match_the_share_and_depend_on_the_seed():
    groups = [row // 7 for row in range(700)]
    first = hold_out_groups(groups)
    assert len(first[1]) == 70
    assert first == hold_out_groups(groups)
    assert first != hold_out_groups(groups, seed=1)
    assert len(hold_out_groups(groups, most=35)[1]) == 35
    assert hold_out_groups(["one"]) == ([0], [])
    with pytest.raises(RecipeError, match="must be between 0 and 1"):
        hold_out_groups(groups, share=1)


def test_sampled_rows_are_ascending_and_depend_on_the_seed():
    rows = sample_rows(100, 10)
    assert rows == sorted(set(rows)) == sample_rows(100, 10)
    assert rows != sample_rows(100, 10, seed=1)
    assert sample_rows(3, 10) == [0, 1, 2]


def test_a_regression_of_two_texts_keeps_both_numbers_to_train_on():
    rows = Rows(["good film", "bad film"] * 20, targets=[0.25, 0.75] * 20)
    kept, held_out = hold_out(rows, "regression")
    assert (len(kept), len(held_out)) == (36, 4)
    assert {rows.targets[row] for row in kept} == {0.25, 0.75}
