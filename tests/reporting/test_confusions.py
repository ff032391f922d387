"""The most confused pairs, and the order of the labels in the matrix."""

from __future__ import annotations

from polytask.reporting.confusions import Pair, confused_pairs, drawn_labels, side_by_side


def test_pairs_are_listed_by_their_rows() -> None:
    counts = [[8, 2, 0], [0, 5, 5], [2, 0, 2]]
    found = confused_pairs("abc", counts)
    assert found == [Pair("b", "c", 5, 0.5), Pair("c", "a", 2, 0.5), Pair("a", "b", 2, 0.2)]
    assert len(confused_pairs("abc", counts, most=1)) == 1


def test_confused_labels_stand_side_by_side() -> None:
    counts = [[0] * 6 for _ in range(6)]
    for one, other in ((0, 3), (1, 4), (2, 5)):
        counts[one][one], counts[one][other], counts[other][other] = 6, 4, 10
    order = side_by_side(counts)
    assert sorted(order) == list(range(6))
    assert all(abs(order.index(one) - order.index(other)) == 1 for one, other in ((0, 3), (1, 4), (2, 5)))


def test_labels_without_rows_have_a_place() -> None:
    assert sorted(side_by_side([[0, 0, 0], [0, 3, 0], [0, 0, 0]])) == [0, 1, 2]


def test_of_very_many_labels_those_with_the_most_mistakes_are_drawn() -> None:
    counts = [[10 * (row == column) for column in range(20)] for row in range(20)]
    counts[3][17], counts[5][3] = 2, 1
    assert sorted(drawn_labels(counts, most=3)) == [3, 5, 17]
    assert sorted(drawn_labels(counts)) == list(range(20))
    assert drawn_labels([[1, 0], [0, 1]]) == [0, 1]
