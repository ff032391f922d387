"""Every sentence that ``train`` and ``compare`` make from scores, in one place where a test holds each to the truth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from polytask.cli import wording

if TYPE_CHECKING:
    from polytask.evaluation.significance import Difference
    from polytask.training.result import Score

NO_NUMBER = "this score is not a number, so it says nothing"
NO_BETTER = (
    "this is no better than giving every text the commonest label of the training rows. Train longer (--epochs), let "
    "it look for settings (--tune), or weigh rare labels (--class-weights balanced)"
)
PERHAPS_NO_BETTER = (
    "giving every text the commonest label of the training rows scores {majority:.3f}, which is within the interval of "
    "this score: on {rows} it may be no better"
)


def beside_majority(reported: Score, majority: float | None) -> list[str]:
    """What to say of a score that is no better than the commonest label's, or not surely better."""
    if not math.isfinite(reported.score):
        return [NO_NUMBER]
    if majority is None:
        return []
    if reported.score <= majority:
        return [NO_BETTER]
    if reported.interval is None or not reported.interval[0] <= majority:
        return []
    return [PERHAPS_NO_BETTER.format(majority=majority, rows=wording.counted(reported.rows, "row"))]


def verdict(first: str, second: str, metric: str, found: Difference, num_rows: int) -> str:
    """What a comparison of two adapters comes to."""
    texts = wording.counted(num_rows, "text")
    if not math.isfinite(found.difference):
        return f"A score of {first} or {second} is not a number, so nothing compares."
    if not found.num_apart:
        return f"{first} and {second} give the same answer to {'each of ' if num_rows > 1 else ''}{texts}."
    differently = f"They answer {found.num_apart:,} of {texts} differently."
    if not found.difference:
        return f"{first} and {second} have the same {metric}. {differently}"
    if found.is_more_than_chance:
        better, worse = (second, first) if found.difference > 0 else (first, second)
        margin = f"{_points(found.difference)} {metric}"
        return f"{better} is better than {worse} by {margin}. That is more than chance ({_p(found)}). {differently}"
    return (
        f"The difference between {first} and {second} is not more than chance ({_p(found)}): "
        f"other texts of this kind might turn it round. {differently}"
    )


def _points(difference: float) -> str:
    """``0.012``; never ``0.000`` for a difference that there is."""
    size = abs(difference)
    return f"{size:.3f}" if size >= 0.0005 else f"{size:.1g}"


def _p(found: Difference) -> str:
    """``p = 0.012``, on the right side of 0.05 as it is printed too."""
    if found.p_value < 0.001:
        return "p < 0.001"
    digits = 2 if found.p_value >= 0.1 else 3
    return f"p = {found.p_value:.{digits}f}" if f"{found.p_value:.3f}" != "0.050" else f"p = {found.p_value:.4f}"
