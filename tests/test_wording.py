"""Numbers and lists as a sentence has them."""

from __future__ import annotations

import pytest

from polytask.wording import and_so_on, apart, counted, listed, points_in_words, signed


@pytest.mark.parametrize(
    ("points", "words"),
    [(-1.04, "1.0 point behind full"), (0.04, "level with full"), (2.5, "2.5 points ahead of full")],
)
def test_a_distance_has_a_direction(points: float, words: str) -> None:
    assert apart(points, "full") == words


def test_lists_end_in_a_word() -> None:
    assert [listed([]), listed(["a"]), listed(["a", "b", "c"], "or")] == ["", "a", "a, b or c"]
    assert and_so_on(["a", "b", "c", "d"], 2) == "a, b and 2 more"


def test_numbers_have_signs_and_plurals() -> None:
    assert (counted(1, "row"), counted(1200, "row")) == ("1 row", "1,200 rows")
    assert signed(-1.3) == "−1.30"
    assert points_in_words(0.2, (-0.1, 0.5)) == "+0.20 points (95% interval −0.10 to +0.50)"
