"""Rows that occur twice, to the character and beyond."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from polytask.data.task import Kind, Rows
from polytask.reporting.answered import Answered
from polytask.reporting.duplicates import (
    Duplicate,
    duplicate_section,
    normalized,
    repeated,
    score_without,
    shared,
    summary,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [("WIN cash, now!", "win cash now"), ("ﬁne  film", "Fine film"), ("a\tb\n", "A b"), ("!!!", "!!! ")],
)
def test_texts_that_differ_in_form_only_are_the_same(one: str, other: str) -> None:
    assert normalized(one) == normalized(other)


def test_texts_of_signs_only_are_not_all_the_same() -> None:
    assert normalized("😀") != normalized("!!!")
    assert normalized(("a", "B!")) == ("a", "b")


def test_repeats_and_shared_rows_say_how_and_with_which_target() -> None:
    rows = Rows(["Good film", "bad", "good film!", "bad"], targets=[1, 0, 0, 0])
    assert repeated(rows) == [Duplicate(2, 0, False, False), Duplicate(3, 1, True, True)]
    train = Rows(["BAD", "bad", "good film"], targets=[0, 0, 1])
    found = shared(train, rows)
    assert found == [
        Duplicate(0, 2, False, True),
        Duplicate(1, 1, True, True),
        Duplicate(2, 2, False, False),
        Duplicate(3, 1, True, True),
    ]
    assert summary(found) == {"rows": 4, "exact": 2, "other_target": 1}


def test_pairs_are_the_same_if_both_texts_are() -> None:
    rows = Rows(["a", "a", "A"], ["x", "y", "x."], targets=[0, 0, 0])
    assert [(own.row, own.other) for own in repeated(rows)] == [(2, 0)]


def test_the_score_without_shared_rows(answered: Callable[[Kind], Answered]) -> None:
    own = answered("classification")
    section = duplicate_section(own)
    assert section.data["in_training"] == {"rows": 12, "exact": 12, "other_target": 0}
    rest = range(12, 24)
    right = sum(own.predictions[row] == own.targets[row] for row in rest) / 12
    assert section.data["score_without"] == pytest.approx(right)
    assert score_without(own, [Duplicate(row, 0, True, True) for row in range(24)]) is None
    assert duplicate_section(replace(own, train=None)).data["in_training"] is None
