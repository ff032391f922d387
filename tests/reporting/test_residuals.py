"""The intervals of a regression hold the truth as often as is said."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from polytask.data.task import Kind
from polytask.reporting.answered import Answered
from polytask.reporting.residuals import interval_section


def test_coverage_is_the_share_within_the_radius(answered: Callable[[Kind], Answered]) -> None:
    own = answered("regression")
    section = interval_section(own)
    assert section is not None
    held = sum(abs(given - true) <= 2.0 for given, true in zip(own.predictions, own.targets, strict=True))
    assert section.data["coverage"][0] == pytest.approx(held / 24)
    parts = section.data["by_prediction"]
    assert len(parts) == 4
    assert sum(share for _, share, *_ in parts) / 4 == pytest.approx(held / 24)
