"""A gate decides whether a new version may replace another, by a paired test on the same rows.

* ``not-worse`` is a non-inferiority test: the lower end of the difference's 95% interval must be above ``-margin``.
  So a version is refused if there are too few rows to tell.
* ``better`` requires a significant improvement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polytask.data.task import Kind, Target
from polytask.errors import RecipeError
from polytask.evaluation.metrics import score
from polytask.evaluation.significance import paired_test


@dataclass(frozen=True)
class Verdict:
    """A decision with the scores and the test that it is based on."""

    is_allowed: bool
    why: str
    metric: str
    rows: int
    score_before: float
    score: float
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Gate:
    """A rule, ``not-worse`` or ``better``, and the tolerated loss ``margin``, in units of the metric."""

    rule: str
    margin: float = 0.005

    def __post_init__(self) -> None:
        if not 0 <= self.margin < 1:
            raise RecipeError(f"a margin of {100 * self.margin:g} points is out of range. Give 0 to below 100")

    def judge(
        self,
        metric: str,
        kind: Kind,
        targets: Sequence[Target],
        before: Sequence[Target],
        after: Sequence[Target],
        *,
        num_labels: int,
    ) -> Verdict:
        """Compare the answers of two versions to the same rows.

        Args:
            metric: the metric to compare.
            kind: the kind of task.
            targets: the correct answers.
            before: the answers of the version that would be replaced.
            after: the answers of the new version.
            num_labels: the number of labels.
        """
        of = paired_test(metric, kind, targets, before, after, num_labels=num_labels)
        old, new = (score(metric, kind, targets, own, num_labels=num_labels) for own in (before, after))
        is_allowed, why = self._decide(of.low, of.difference, is_sure=of.is_more_than_chance)
        return Verdict(is_allowed, why, metric, len(targets), old, new, of.difference, of.low, of.high, of.p_value)

    def _decide(self, low: float, difference: float, *, is_sure: bool) -> tuple[bool, str]:
        if self.rule == "better":
            if difference > 0 and is_sure:
                return True, "it is significantly better"
            return False, "it is not significantly better"
        points = f"{100 * self.margin:g} points"
        if low >= -self.margin:
            return True, "it is not worse" if low >= 0 else f"it is worse by no more than {points}"
        worst = f"it may be worse by {-100 * low:.2f} points, and only {points} are allowed"
        return False, f"{worst}. More rows would narrow the interval"
