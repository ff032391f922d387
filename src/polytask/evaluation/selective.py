"""Scores of an adapter that may abstain: coverage, precision and recall, and accuracy by coverage.

Use rows that chose neither the adapter nor its thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polytask.data.task import Target
from polytask.evaluation.decision import Decision
from polytask.evaluation.reliability import share

SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


def measured_answers(
    decision: Decision, scores: Sequence[Sequence[float]], targets: Sequence[Target]
) -> dict[str, Any]:
    """``coverage``, ``precision`` and ``recall``, each a share with its 95% interval (Wilson).

    * Coverage: the share of rows that get a label.
    * Precision: the share of given labels that are right.
    * Recall: the share of true labels that are given.

    Args:
        decision: how the adapter decides.
        scores: the head's scores, ``[N, K]``.
        targets: the targets of these rows.
    """
    given, due = [], []
    for row, target in zip(scores, targets, strict=True):
        own = decision.of(row)
        given.append(set(own.labels if own.labels is not None else () if own.label is None else (own.label,)))
        due.append(set(target if isinstance(target, tuple) else (target,)))
    hits = sum(len(one & other) for one, other in zip(given, due, strict=True))
    return {
        "rows": len(targets),
        "coverage": share(sum(map(bool, given)), len(given)),
        "precision": share(hits, sum(map(len, given))),
        "recall": share(hits, sum(map(len, due))),
    }


def accuracy_by_coverage(probs: Sequence[Sequence[float]], targets: Sequence[int]) -> list[list[float]]:
    """The accuracy when only the most certain rows are answered.

    Returns:
        For each of ``SHARES``: the share of rows, their accuracy, and their least probability.
    """
    answers = ((max(row), list(row).index(max(row)) == target) for row, target in zip(probs, targets, strict=True))
    ranked = sorted(answers, key=lambda own: -own[0])
    points = []
    for part in SHARES:
        rows = ranked[: max(1, round(part * len(ranked)))]
        points.append([round(len(rows) / len(ranked), 6), sum(right for _, right in rows) / len(rows), rows[-1][0]])
    return points
