"""How far probabilities can be believed, and how good the surest answers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polytask.drawing.table import text_table
from polytask.evaluation.metrics import indicators
from polytask.evaluation.reliability import reliability
from polytask.evaluation.selective import measured_answers
from polytask.reporting.answered import Answered
from polytask.reporting.drawings import Curve, draw_coverage, draw_curves, draw_reliability
from polytask.reporting.page import Picture, Section, Tile
from polytask.reporting.wording import named, percent, ranged
from polytask.suites import squad

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

MAX_POINTS = 200
"""Points of a curve."""
MAX_CURVES = 5
"""Labels with a precision–recall curve of their own: those with the least area."""


@dataclass(frozen=True)
class Coverage:
    """Of the surest answers: their share of all rows, their mean score with its band, and the least probability."""

    coverage: tuple[float, ...]
    score: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    least: tuple[float, ...]


def calibration_section(answered: Answered) -> Section:
    """The reliability diagram before and after calibration, with both errors."""
    columns = {"before calibration": answered.scores, "calibrated": answered.probs}
    if answered.decision.calibration is None:
        columns = {"not calibrated": answered.scores}
    sides = [(name, reliability(answered.kind, probs, answered.targets)) for name, probs in columns.items()]
    after = sides[-1][1]
    bins = [(name, [(b.rows, b.probability, b.right) for b in own.bins]) for name, own in sides]
    rows = [(name, *(ranged(e.value, e.low, e.high) for e in (own.ece, own.brier))) for name, own in sides]
    whose = "the likeliest label" if answered.kind == "classification" else "every label of every row"
    return Section(
        "calibration",
        "Calibration",
        f"Probabilities are {100 * after.ece.value:.1f} points off on average. On the dashed line they would be exact.",
        (Tile(f"{after.ece.value:.3f}", "expected calibration error", sides[-1][0]),),
        (Picture(draw_reliability("reliability", bins), f"Probability of {whose}; areas show the number of answers"),),
        (text_table("", ("", "expected calibration error", "Brier score"), rows, (1, 2)),),
        data={name.replace(" ", "_"): own.to_json() for name, own in sides},
    )


def coverage_section(answered: Answered) -> Section:
    """The accuracy of the surest answers; of spans, the share that match exactly."""
    right, sure, y = rightness(answered)
    what = "score" if answered.kind == "span" else "probability"
    found = coverage_curve(right, sure)
    measured = None
    if answered.kind == "classification" and answered.decision.thresholds is not None:
        measured = measured_answers(answered.decision, answered.scores, answered.targets)
    mark = (measured["coverage"][0], measured["precision"][0]) if measured and measured["precision"] else None
    svg = draw_coverage("coverage", found.coverage, found.score, (found.low, found.high), f"{y} of these", mark)
    shares = [share for share in (1.0, 0.9, 0.75, 0.5, 0.25) if share * len(answered) >= 1]
    points = [_point_at(found, share) for share in shares]
    scores = [ranged(found.score[at], found.low[at], found.high[at]) for at in points]
    rows = [
        (percent(found.coverage[at]), score, f"{found.least[at]:.3f}") for at, score in zip(points, scores, strict=True)
    ]
    half = _point_at(found, 0.5)
    return Section(
        "coverage",
        "Coverage",
        f"The surer half of the answers has {y} {found.score[half]:.3f}, all of them {found.score[-1]:.3f}.",
        (
            Tile(
                f"{found.score[half]:.3f}",
                f"{y} of the surer half",
                f"from a {what} of {found.least[half]:.2f} on",
            ),
        ),
        (Picture(svg, "The surest answers first, with 95% intervals (Wilson)"),),
        (text_table("", ("answered", y, f"from {what}"), rows, (0, 1, 2)),),
        data={
            "points": [list(point) for point in zip(found.coverage, found.score, found.least)],
            "thresholds": measured,
        },
    )


def rightness(answered: Answered) -> tuple[list[float], list[float], str]:
    """Whether each answer is right, how sure it is, and what a share of right answers is called."""
    if answered.kind == "span":
        pairs = zip(answered.predictions, answered.targets, strict=True)
        hits = [squad.exact_match(given[0].text, [own.text for own in correct]) for given, correct in pairs]
        return [float(hit) for hit in hits], [row[0] for row in answered.scores], "exact match"
    hits = [float(one == other) for one, other in zip(answered.predictions, answered.targets, strict=True)]
    return hits, [max(row) for row in answered.probs], "accuracy"


def coverage_curve(right: Sequence[float], sure: Sequence[float], most: int = MAX_POINTS) -> Coverage:
    """The mean of ``right`` over the surest rows, from the surest alone to all; ties are taken together.

    Args:
        right: 1 for a right answer and 0 for a wrong one, ``[N]``.
        sure: the probability of each answer, ``[N]``.
        most: points of the curve.
    """
    import numpy as np

    order = np.argsort(-np.asarray(sure), kind="stable")
    least, hits = np.asarray(sure)[order], np.cumsum(np.asarray(right, dtype=np.float64)[order])
    ends = np.flatnonzero(np.append(least[1:] < least[:-1], True))
    ends = ends[np.unique(np.linspace(0, len(ends) - 1, most).round().astype(int))]
    given = ends + 1.0
    score = hits[ends] / given
    low, high = wilson(score, given)
    columns = (given / len(order), score, low, high, least[ends])
    return Coverage(*(tuple(column.tolist()) for column in columns))


def wilson(share: Array, rows: Array) -> tuple[Array, Array]:
    """The ends of the 95% interval of a share of so many rows (Wilson 1927)."""
    import numpy as np

    z = 1.959964
    middle = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    radius = z / (1 + z**2 / rows) * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return np.maximum(middle - radius, 0), np.minimum(middle + radius, 1)


def _point_at(found: Coverage, share: float) -> int:
    """The point whose coverage is nearest to a share."""
    return min(range(len(found.coverage)), key=lambda at: abs(found.coverage[at] - share))


def precision_recall_section(answered: Answered) -> Section | None:
    """Precision against recall: over all labels, and of the labels with the least area."""
    import numpy as np
    from sklearn.metrics import average_precision_score

    truth, probs = indicators(answered.targets, len(answered.labels)), np.asarray(answered.probs)
    seen = [at for at in range(len(answered.labels)) if truth[:, at].any()]
    areas = {at: float(average_precision_score(truth[:, at], probs[:, at])) for at in seen}
    if not areas:
        return None
    micro = float(average_precision_score(truth.ravel(), probs.ravel()))
    lowest = sorted(areas, key=areas.__getitem__)[:MAX_CURVES]
    curves = [precision_recall_curve(f"all labels ({micro:.3f})", truth.ravel(), probs.ravel())]
    curves += [
        precision_recall_curve(f"{named(answered.labels[at], 24)} ({areas[at]:.3f})", truth[:, at], probs[:, at])
        for at in lowest
    ]
    which = "every label" if len(lowest) == len(answered.labels) else f"the {len(lowest)} labels with the least area"
    mean = sum(areas.values()) / len(areas)
    return Section(
        "precision_recall",
        "Precision and recall",
        f"The mean average precision of the labels is {mean:.3f}.",
        pictures=(
            Picture(
                draw_curves("precision-recall", curves, "recall", "precision"),
                f"All labels together, and {which}, with their average precision",
            ),
        ),
        data={
            "micro_average_precision": micro,
            "mean_average_precision": mean,
            "curves": [{"name": own.name, "recall": own.x, "precision": own.y} for own in curves],
        },
    )


def precision_recall_curve(name: str, truth: Any, probs: Any, most: int = MAX_POINTS) -> Curve:
    """The curve of one label, from a recall of 0 on, thinned out to so many points."""
    import numpy as np
    from sklearn.metrics import precision_recall_curve as every_point

    precision, recall, _ = every_point(truth, probs)
    precision, recall = precision[::-1], recall[::-1]
    kept = np.unique(np.linspace(0, len(recall) - 1, most).round().astype(int))
    return Curve(name, [round(float(x), 5) for x in recall[kept]], [round(float(y), 5) for y in precision[kept]])
