"""Numbers: predicted against true, residuals, and whether intervals hold the truth as often as they say."""

from __future__ import annotations

from statistics import fmean

from polytask.drawing.table import text_table
from polytask.evaluation.calibration import Conformal
from polytask.evaluation.reliability import coverage, share
from polytask.reporting.answered import Answered
from polytask.reporting.drawings import Interval, draw_histogram, draw_intervals, draw_scatter
from polytask.reporting.groups import length_groups
from polytask.reporting.page import Picture, Section, Tile
from polytask.reporting.wording import percent, ranged

NUM_PARTS = 4


def residual_section(answered: Answered) -> Section:
    """Predicted against true numbers, and the residuals."""
    residuals = [given - true for given, true in zip(answered.predictions, answered.targets, strict=True)]
    calibration = answered.decision.calibration
    radius = calibration.radius if isinstance(calibration, Conformal) else None
    bias = fmean(residuals)
    scatter = draw_scatter("scatter", answered.targets, answered.predictions, radius)
    return Section(
        "residuals",
        "Residuals",
        f"Predictions are {abs(bias):.3g} too {'high' if bias > 0 else 'low'} on average.",
        pictures=(
            Picture(scatter, "Every row: what was predicted against the truth"),
            Picture(draw_histogram("residuals", residuals, "predicted − true"), "How far predictions are off"),
        ),
        data={"mean_residual": bias, "largest": max(map(abs, residuals))},
    )


def interval_section(answered: Answered) -> Section | None:
    """How often the interval holds the truth, over all rows and by the size of the prediction."""
    own = answered.decision.calibration
    if not isinstance(own, Conformal):
        return None
    found = coverage(own, answered.scores, answered.targets)
    parts = [Interval("all", *found["coverage"]), *coverage_by_prediction(answered, own)]
    whole = percent(found["coverage"][0])
    promised = f"± {own.radius:.3g} is to hold the truth in {own.level:.0%} of the rows"
    picture = Picture(
        draw_intervals("intervals", parts, "share within the interval"),
        f"By the predicted number, rows in parentheses; {own.level:.0%} is promised",
    )
    return Section(
        "intervals",
        "Intervals",
        f"{promised}, and does in {whole}.",
        (Tile(whole, "of the truth is within the interval", f"± {own.radius:.3g}; {own.level:.0%} is promised"),),
        (picture,),
        (
            text_table(
                "", ("predicted", "within"), [(at.name, ranged(at.value, at.low, at.high)) for at in parts], (1,)
            ),
        ),
        data={**found, "by_prediction": [[at.name, at.value, at.low, at.high] for at in parts[1:]]},
    )


def coverage_by_prediction(answered: Answered, calibration: Conformal) -> list[Interval]:
    """The share of rows within their interval, with its own interval (Wilson), by quantiles of the predicted number."""
    numbers = answered.predictions
    ranked = sorted(range(len(answered)), key=numbers.__getitem__)
    rank_of = {row: rank for rank, row in enumerate(ranked)}
    found = []
    for low, high, rows in length_groups([rank_of[row] for row in range(len(answered))], NUM_PARTS):
        held = sum(abs(numbers[row] - answered.targets[row]) <= calibration.radius for row in rows)
        name = f"{numbers[ranked[low]]:.3g} to {numbers[ranked[high]]:.3g} ({len(rows):,})"
        found += [Interval(name, *estimate)] if (estimate := share(held, len(rows))) else []
    return found
