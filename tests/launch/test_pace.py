"""The time left follows the seconds per unit of finished work."""

from __future__ import annotations

import pytest

from polytask.launch.pace import Pace


def pace_of(kinds: str, tokens: int = 100) -> Pace:
    """Trials ``0``, ``1``, …: ``h`` of adapters, ``f`` of full fine-tuning, ``w`` of words, whose time is none."""
    by_key = {str(at): kind for at, kind in enumerate(kinds)}
    return Pace({key: tokens * (kind != "w") for key, kind in by_key.items()}, by_key)


def test_nothing_is_known_before_a_trial_has_finished() -> None:
    assert pace_of("hh").left_s({"0": 1.0, "1": 1.0}) is None


def test_each_kind_of_trial_has_its_own_pace() -> None:
    pace = pace_of("hhhhhfffffhf")
    for at, seconds in enumerate([10, 10, 10, 10, 3000, 30, 30, 30, 30, 30]):
        pace.add(str(at), seconds)
    low, middle, high = pace.left_s({"10": 1.0, "11": 0.5}) or (0, 0, 0)
    assert (low, middle, high) == pytest.approx((25, 25, 25)), "a trial that was paused changes no quartile"


def test_a_short_first_trial_does_not_shorten_a_long_run() -> None:
    pace = pace_of("h" * 10, tokens=1000)
    pace.amounts = {**pace.amounts, "0": 10}
    pace.add("0", 1.0)
    assert pace.left_s({str(at): 1.0 for at in range(1, 10)}) == pytest.approx((450, 900, 1800))


def test_packs_that_run_at_once_share_the_time_and_words_take_none() -> None:
    pace = pace_of("hhw")
    pace.add("0", 10.0)
    assert pace.left_s({"1": 1.0, "2": 1.0}, num_parallel=2) == pytest.approx((2.5, 5, 10))
    assert pace.left_s({"2": 1.0}) == (0, 0, 0)
