"""Groups by length hold every row once, and questions have one question word."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from polytask.data.task import Kind
from polytask.reporting.answered import Answered
from polytask.reporting.groups import by_length, length_groups, question_word


def test_groups_hold_every_row_once_and_equal_lengths_together() -> None:
    lengths = [5, 1, 1, 1, 9, 2, 7, 3]
    groups = length_groups(lengths, 4)
    assert sorted(row for *_, rows in groups for row in rows) == list(range(8))
    assert [(low, high) for low, high, _ in groups] == [(1, 1), (2, 2), (3, 5), (7, 9)]
    assert all(low <= lengths[row] <= high for low, high, rows in groups for row in rows)
    assert length_groups([4, 4, 4], 5) == [(4, 4, [0, 1, 2])]


def test_the_scores_of_groups_average_to_the_score_of_all(answered: Callable[[Kind], Answered]) -> None:
    own = answered("classification")
    groups = by_length(own)
    right = sum(given == true for given, true in zip(own.predictions, own.targets, strict=True))
    assert sum(group.score * group.rows for group in groups) == pytest.approx(right)


@pytest.mark.parametrize(
    ("question", "word"),
    [("Who led them?", "who"), ("In HOW MANY years?", "how many"), ("Name it.", "other"), ("Somewhat, why?", "why")],
)
def test_the_first_question_word_counts(question: str, word: str) -> None:
    assert question_word(question) == word
