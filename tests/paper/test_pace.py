"""The time left follows the seconds per token of finished trials."""

from __future__ import annotations

import pytest

from polytask.paper.edition import all_trials
from polytask.paper.editions import edition_named
from polytask.paper.pace import Pace


def pace_of(kinds: str, tokens: int = 100, workers: int = 1) -> Pace:
    """Trials ``0``, ``1``, …: ``h`` of adapters, ``f`` of full fine-tuning, ``w`` of TF-IDF."""
    by_name = {trial.method["name"][0]: trial for trial in all_trials(edition_named("claim"))}
    by_name["w"] = (
        by_name["t"]
        if by_name["t"].method["name"] == "tfidf"
        else next(trial for trial in all_trials(edition_named("claim")) if not trial.has_backbone)
    )
    trials = {str(at): by_name[kind] for at, kind in enumerate(kinds)}
    return Pace({key: tokens * trial.has_backbone for key, trial in trials.items()}, trials, workers)


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
    pace.tokens = {**pace.tokens, "0": 10}
    pace.add("0", 1.0)
    assert pace.left_s({str(at): 1.0 for at in range(1, 10)}) == pytest.approx((450, 900, 1800))


def test_workers_share_the_time_and_words_take_none() -> None:
    pace = pace_of("hhw", workers=2)
    pace.add("0", 10.0)
    assert pace.left_s({"1": 1.0, "2": 1.0}) == pytest.approx((2.5, 5, 10))
    assert pace.left_s({"2": 1.0}) == (0, 0, 0)
