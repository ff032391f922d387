"""The scores of an adapter with their intervals, beside what is simpler than it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from polytask.data.metric_names import metrics_for
from polytask.data.task import Target
from polytask.drawing.table import Table, text_table
from polytask.evaluation.metrics import distinct, score
from polytask.evaluation.significance import (
    RESAMPLES,
    bootstrap_interval,
    paired_test,
    percentile_interval,
    resample_counts,
)
from polytask.reporting.answered import Answered
from polytask.reporting.baselines import Baseline, baselines
from polytask.reporting.drawings import BLUE, GREY, Interval, draw_intervals
from polytask.reporting.page import Picture, Section, Tile
from polytask.reporting.wording import metric_in_words, ranged
from polytask.wording import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def score_section(answered: Answered) -> Section:
    """Every metric of the adapter and of its baselines."""
    simpler, remarks = baselines(answered)
    own = Baseline(str(answered.entry), answered.predictions, "")
    sides = [own, *simpler]
    tables = {side.name: scores_with_intervals(answered, side.predictions) for side in sides}
    main = answered.metric
    shown = [Interval(side.name, *tables[side.name][main]) for side in sides]
    against = {side.name: difference(answered, side) for side in simpler}
    words = metric_in_words(main, answered.labels)
    value, low, high = tables[own.name][main]
    picture = Picture(
        draw_intervals("scores", shown, words, colours=(BLUE, GREY)),
        f"{words[0].upper()}{words[1:]} with 95% intervals over {RESAMPLES:,} resamples of the rows",
    )
    return Section(
        "scores",
        "Scores",
        _lead(answered, against),
        (Tile(f"{value:.3f}", words, f"95% interval {low:.3f} to {high:.3f}"),),
        (picture,),
        (_table(answered, tables),),
        remarks=(*(f"{side.name}: {side.about}." for side in simpler), *(f"{why}.".capitalize() for why in remarks)),
        data={"metric": main, "scores": tables, "difference": against},
    )


def scores_with_intervals(answered: Answered, predictions: Sequence[Target]) -> dict[str, tuple[float, float, float]]:
    """Each metric of these predictions: value, low, high. Errors of a regression are lower for better."""
    kind, num_labels = answered.kind, len(answered.labels)
    given = (kind, answered.targets, predictions)
    values = {name: score(name, *given, num_labels=num_labels) for name in metrics_for(kind)}
    kept = distinct(values, kind, num_labels, answered.metric)
    found = {name: (value, *bootstrap_interval(name, *given, num_labels=num_labels)) for name, value in kept.items()}
    return found | (errors_with_intervals(answered.targets, predictions) if kind == "regression" else {})


def errors_with_intervals(
    targets: Sequence[float], predictions: Sequence[float]
) -> dict[str, tuple[float, float, float]]:
    """The mean absolute and the root mean squared error, each with its interval."""
    import numpy as np

    apart = np.abs(np.asarray(targets, dtype=np.float64) - np.asarray(predictions, dtype=np.float64))
    sums = [
        counts @ np.stack([apart, apart**2], axis=1)
        for counts in resample_counts(range(len(apart)), len(apart), 0, RESAMPLES)
    ]
    means = np.concatenate(sums) / len(apart)
    return {
        "mae": (float(apart.mean()), *percentile_interval(means[:, 0])),
        "rmse": (math.sqrt(float((apart**2).mean())), *percentile_interval(np.sqrt(means[:, 1]))),
    }


def difference(answered: Answered, side: Baseline) -> dict[str, Any]:
    """The adapter's score minus that of a baseline on the same resamples."""
    given = (answered.metric, answered.kind, answered.targets)
    found = paired_test(*given, side.predictions, answered.predictions, num_labels=len(answered.labels))
    return {"difference": found.difference, "interval": [found.low, found.high], "p_value": found.p_value}


def _lead(answered: Answered, against: dict[str, dict[str, Any]]) -> str:
    rows = counted(len(answered), "labelled row")
    if not against:
        return f"On {rows}."
    strongest, found = list(against.items())[-1]
    low, high = found["interval"]
    if low > 0:
        return f"On {rows} the adapter is better than the {strongest}, by {ranged(found['difference'], low, high)}."
    if high < 0:
        return f"On {rows} the adapter is worse than the {strongest}, by {ranged(-found['difference'], -high, -low)}."
    spread = f"{found['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
    return f"{rows} do not tell whether the adapter is better than the {strongest}: the difference is {spread}."


def _table(answered: Answered, tables: dict[str, dict[str, tuple[float, float, float]]]) -> Table:
    names = list(next(iter(tables.values())))
    rows = [
        (metric_in_words(name, answered.labels), *(ranged(*own[name]) for own in tables.values())) for name in names
    ]
    return text_table("", ("", *tables), rows, range(1, len(tables) + 1))
