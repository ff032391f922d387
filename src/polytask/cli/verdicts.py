"""The sentences that ``train`` and ``compare`` print about scores; a test checks each of them at the edges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polytask.cli import wording

if TYPE_CHECKING:
    from polytask.evaluation.significance import Difference
    from polytask.training.result import Score

NO_NUMBER = "this score is not a number, so it says nothing"
NO_BETTER = (
    "this is no better than giving every text the most frequent label of the training rows. Train longer (--epochs), "
    "search for better settings (--tune), or weigh rare labels more (--class-weights balanced)"
)
PERHAPS_NO_BETTER = (
    "giving every text the most frequent label of the training rows scores {majority:.3f}, which is within the "
    "confidence interval of this score: on {rows} the adapter may be no better"
)

PROBE_NO_WORSE = (
    "a probe, which takes seconds to fit, scores {probe:.3f} on the same rows: try --method probe, or train longer "
    "(--epochs) or with --tune"
)
FEW_ROWS_PROBE = "with only {rows} per label, a probe scores {probe:.3f} on the same rows. Try --method probe"
TOO_FEW_FOR_PROBE = (
    "a probe scores {probe:.3f} on the same {rows}, which are too few to tell whether it is better. "
    "Give more with --validation FILE"
)
RARE_LABELS = (
    "labels with fewer than {most} training rows: {labels}. Most of their texts will probably get another label, and "
    "their scores mean little. Add rows, merge labels, or try --class-weights logit-adjusted"
)
RARE_ROWS = 10
FEW_ROWS = 16
"""Up to this many rows per label are called few."""
ENOUGH_ROWS = 20
"""With fewer rows, scores are not compared."""


def beside_majority(reported: Score, majority: float | None) -> list[str]:
    """The note on a score that is not better, or not significantly better, than that of the majority class."""
    if not math.isfinite(reported.score):
        return [NO_NUMBER]
    if majority is None:
        return []
    if reported.score <= majority:
        return [NO_BETTER]
    if reported.interval is None or not reported.interval[0] <= majority:
        return []
    return [PERHAPS_NO_BETTER.format(majority=majority, rows=wording.counted(reported.rows, "row"))]


def beside_probe(reported: Score, probe: Mapping[str, Any] | None, label_counts: Mapping[str, int]) -> list[str]:
    """The notes on a probe that scores at least as well, and on labels with few rows, where it often does."""
    said = [str(probe["note"])] if probe is not None and "note" in probe else []
    few = sorted(label_counts.values())[len(label_counts) // 2] if label_counts else FEW_ROWS + 1
    if probe is None or not probe.get("score", -math.inf) >= reported.score:
        return said
    if reported.rows < ENOUGH_ROWS:
        return [*said, TOO_FEW_FOR_PROBE.format(probe=probe["score"], rows=wording.counted(reported.rows, "row"))]
    if few <= FEW_ROWS:
        return [*said, FEW_ROWS_PROBE.format(probe=probe["score"], rows=wording.counted(few, "row"))]
    return [*said, PROBE_NO_WORSE.format(probe=probe["score"])]


def rare_labels(label_counts: Mapping[str, int]) -> list[str]:
    """The note on labels with so few training rows that little can be expected of them."""
    rare = {label: count for label, count in label_counts.items() if 0 < count < RARE_ROWS}
    if not rare or len(rare) == len(label_counts):
        return []
    shown = ", ".join(f"{wording.shortened(label, 24)!r} ({count})" for label, count in list(rare.items())[:5])
    more = f" and {len(rare) - 5} more" if len(rare) > 5 else ""
    return [RARE_LABELS.format(labels=shown + more, most=RARE_ROWS)]


def verdict(first: str, second: str, metric: str, found: Difference, num_rows: int) -> str:
    """The result of a comparison, in a sentence or two."""
    texts = wording.counted(num_rows, "text")
    if not math.isfinite(found.difference):
        return f"A score of {first} or {second} is not a number, so they cannot be compared."
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
        f"with other texts the other adapter might be better. {differently}"
    )


def _points(difference: float) -> str:
    """``0.012``; never ``0.000`` for a difference that is not zero."""
    size = abs(difference)
    return f"{size:.3f}" if size >= 0.0005 else f"{size:.1g}"


def _p(found: Difference) -> str:
    """``p = 0.012``, with enough digits that 0.0499 is not printed as 0.050."""
    if found.p_value < 0.001:
        return "p < 0.001"
    digits = 2 if found.p_value >= 0.1 else 3
    return f"p = {found.p_value:.{digits}f}" if f"{found.p_value:.3f}" != "0.050" else f"p = {found.p_value:.4f}"
