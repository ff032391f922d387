"""Mistakes are listed by how sure they are, a few of each kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from polytask.data.task import Kind
from polytask.reporting.answered import Answered
from polytask.reporting.mistakes import Mistake, large_errors, mistake_section, varied, wrong_labels, wrong_sets

Answers = Callable[[Kind], Answered]


def test_wrong_labels_have_both_probabilities(answered: Answers) -> None:
    own = answered("classification")
    found = {mistake.row: mistake for mistake in wrong_labels(own)}
    assert set(found) == {row for row in range(24) if own.predictions[row] != own.targets[row]}
    row, mistake = next(iter(found.items()))
    assert mistake.size == max(own.probs[row])
    assert mistake.data["probability_of_label"] == own.probs[row][own.targets[row]]


def test_of_a_wrong_set_the_label_that_is_farthest_off_is_told(answered: Answers) -> None:
    own = answered("multilabel")
    for mistake in wrong_sets(own):
        off = [abs((label in own.targets[mistake.row]) - prob) for label, prob in enumerate(own.probs[mistake.row])]
        assert mistake.size == pytest.approx(max(off))


def test_errors_of_numbers_are_their_distance(answered: Answers) -> None:
    own = answered("regression")
    found = next(iter(large_errors(own)))
    assert found.size == pytest.approx(abs(own.predictions[0] - own.targets[0]))


def test_the_surest_come_first_with_the_words_that_drove_them(answered: Answers) -> None:
    own = answered("classification")
    section = mistake_section(own)
    sizes = [mistake["probability"] for mistake in section.data["surest"]]
    assert sizes == sorted(sizes, reverse=True)
    words = section.data["surest"][0]["words"]
    assert {word for word, _ in words} <= set(own.rows.texts[section.data["surest"][0]["row"] - 1].split())
    assert any(piece.weight for card in section.cards for passage in card.passages for piece in passage)


def test_of_one_kind_only_three_are_shown() -> None:
    same = [Mistake(row, 1.0, (), lambda _: 0.0, {}, kind=(0, 1)) for row in range(5)]
    other = [Mistake(row, 0.5, (), lambda _: 0.0, {}) for row in range(5, 10)]
    assert [mistake.row for mistake in varied([*same, *other])] == [0, 1, 2, 5, 6, 7, 8, 9]
