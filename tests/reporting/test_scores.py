"""Scores have the values and intervals of the evaluation, and errors those of numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from polytask.data.task import Kind
from polytask.evaluation.metrics import score
from polytask.evaluation.significance import bootstrap_interval
from polytask.reporting.answered import Answered
from polytask.reporting.scores import errors_with_intervals, score_section, scores_with_intervals

Answers = Callable[[Kind], Answered]


def test_a_score_and_its_interval_are_those_of_eval(answered: Answers) -> None:
    own = answered("multilabel")
    given = ("micro_f1", own.kind, own.targets, own.predictions)
    expected = (score(*given, num_labels=3), *bootstrap_interval(*given, num_labels=3))
    assert scores_with_intervals(own, own.predictions)["micro_f1"] == expected


def test_errors_of_numbers() -> None:
    found = errors_with_intervals([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 3.0, 1.0])
    assert found["mae"][0] == pytest.approx(1.0)
    assert found["rmse"][0] == pytest.approx(np.sqrt(10 / 4))
    assert all(low <= value <= high for value, low, high in found.values())
    assert errors_with_intervals([1.0, 2.0], [2.0, 3.0])["mae"] == pytest.approx((1.0, 1.0, 1.0))


def test_the_difference_to_each_baseline_is_told(answered: Answers) -> None:
    section = score_section(answered("classification"))
    assert set(section.data["difference"]) == {"majority class", "linear probe"}
    values = section.data["scores"]
    difference = values["classification@1"]["accuracy"][0] - values["linear probe"]["accuracy"][0]
    assert section.data["difference"]["linear probe"]["difference"] == pytest.approx(difference)
