"""Thresholds: the least probability at which an answer is given; below it the adapter abstains.

``choose_thresholds`` chooses them on the validation rows for a goal:

* ``precision``: as many answers as possible of which a share ``target`` is right.
* ``recall``: as few answers as possible that find a share ``target`` of the true labels.
* ``coverage``: as few answers as possible that cover a share ``target`` of the rows.
* ``f1``: the best F1 on these rows; for multi-label tasks only.

The share must reach the target with 95% confidence: the lower end of its one-sided interval (Clopper and Pearson 1934).

Estimates on the rows that choose the thresholds are too optimistic. So ``cross_checked`` reports 5-fold
cross-validation: each fold is answered with the calibration and thresholds of the other four.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from polytask.data.task import Kind, Target
from polytask.errors import AdapterError, RecipeError
from polytask.evaluation.calibration import Calibration
from polytask.evaluation.calibration_fit import fit_calibration

Aim = Literal["precision", "recall", "coverage", "f1"]
LEVEL = 0.95
FOLDS = 5
_FIELDS: dict[str, Any] = {"goal": str, "target": (float, int, type(None)), "values": list, "rows": int}


@dataclass(frozen=True)
class Goal:
    """What thresholds must reach.

    Attributes:
        aim: the score that must reach the target.
        target: a share between 0 and 1; None for ``f1``.
        per_label: whether each label has its own threshold.

    Raises:
        RecipeError: the aim is unknown, or the target is not between 0 and 1.
    """

    aim: Aim
    target: float | None = None
    per_label: bool = False

    def __post_init__(self) -> None:
        if self.aim not in get_args(Aim):
            raise RecipeError(f"there is no goal {self.aim!r} for thresholds; there are {', '.join(get_args(Aim))}")
        if (self.target is None) != (self.aim == "f1") or (self.target is not None and not 0 < self.target < 1):
            raise RecipeError(f"{self.aim}={self.target!r} is out of range. Give a share between 0 and 1, such as 0.95")

    def check(self, kind: Kind) -> None:
        """Refuse a goal that a task of this kind cannot have.

        Raises:
            RecipeError: it cannot; the message has the possible goals.
        """
        if kind not in ("classification", "multilabel"):
            raise RecipeError(f"thresholds are for labels; this task is {kind}. Leave --{self.aim} out")
        if self.aim == ("f1" if kind == "classification" else "coverage"):
            right = "precision, recall or " + ("coverage" if kind == "classification" else "f1")
            raise RecipeError(f"a {kind} task has no threshold for {self.aim}; it can be for {right}")


@dataclass(frozen=True)
class Thresholds:
    """The least probability at which each label is given, None if it never is; chosen on ``rows`` validation rows."""

    goal: Aim
    target: float | None
    values: tuple[float | None, ...]
    rows: int

    def accepts(self, label: int, prob: float) -> bool:
        """Whether a label with this probability is given."""
        cut = self.values[label]
        return cut is not None and prob >= cut

    def to_json(self) -> dict[str, Any]:
        """The header's field ``thresholds``."""
        return {"goal": self.goal, "target": self.target, "values": list(self.values), "rows": self.rows}


def thresholds_from_json(given: Mapping[str, Any], kind: Kind, num_labels: int) -> Thresholds:
    """Read the header's field ``thresholds``.

    Raises:
        AdapterError: the field is invalid, or does not fit the head.
    """
    if set(given) != set(_FIELDS) or not all(isinstance(given[name], of) for name, of in _FIELDS.items()):
        raise AdapterError(f"'thresholds' must have the fields {', '.join(_FIELDS)}, or one of them has the wrong type")
    values = given["values"]
    sound = all(value is None or (type(value) in (int, float) and 0 <= value <= 1) for value in values)
    if len(values) != num_labels or not sound or type(given["rows"]) is not int or given["rows"] < 1:
        raise AdapterError(f"'thresholds' must hold a probability or null for each of {num_labels} labels")
    try:
        Goal(given["goal"], given["target"]).check(kind)
    except RecipeError as error:
        raise AdapterError(f"'thresholds': {error}") from error
    return Thresholds(cast(Aim, given["goal"]), given["target"], tuple(values), given["rows"])


@dataclass(frozen=True)
class ChosenThresholds:
    """Thresholds, or None if none reaches the goal; notes about them; and what they reach in cross-validation."""

    thresholds: Thresholds | None
    notes: tuple[str, ...] = ()
    cross_checked: tuple[float, float] | None = None
    """The share that the goal is about and the lower end of its interval; None if it was not measured."""


def choose_thresholds(
    goal: Goal,
    kind: Kind,
    labels: Sequence[str],
    scores: Sequence[Sequence[float]],
    targets: Sequence[Target],
    calibration: Calibration | None = None,
) -> ChosenThresholds:
    """Choose the thresholds that reach a goal on labelled rows.

    Args:
        goal: what to reach.
        kind: the kind of head, ``classification`` or ``multilabel``.
        labels: the label names.
        scores: the head's scores, ``[N, K]``.
        targets: the targets of these rows.
        calibration: maps scores to the probabilities that thresholds are compared with; None if there is none.
    """
    goal.check(kind)
    answers = _candidates(kind, _calibrated(calibration, scores), targets)
    values = _thresholds_by_label(goal, answers, len(labels))
    never = [label for label, value in zip(labels, values, strict=True) if value is None]
    what = f"{goal.aim} {goal.target}"
    if len(never) == len(labels):
        none = f"no threshold reaches {what} with 95% confidence on {len(scores):,} validation rows, so none is set"
        return ChosenThresholds(None, (f"{none}. Use more validation rows or a lower target",))
    notes: tuple[str, ...] = (
        () if not never else (f"never answered, because no threshold reaches {what}: {', '.join(never[:5])}",)
    )
    checked = _cross_validated(goal, kind, labels, scores, targets, is_calibrated=calibration is not None)
    if checked is not None and goal.target is not None and checked[0] < goal.target:
        notes += (f"in cross-validation the thresholds reach {goal.aim} {checked[0]:.3f}, not {goal.target}",)
    return ChosenThresholds(Thresholds(goal.aim, goal.target, values, len(scores)), notes, checked)


@dataclass(frozen=True)
class _Candidates:
    """Possible answers: their label, probability, and whether they are right; ``due`` lists the true (row, label)s."""

    label: Any
    prob: Any
    right: Any
    due: Any


def _candidates(kind: Kind, probs: Sequence[Sequence[float]], targets: Sequence[Target]) -> _Candidates:
    import numpy as np

    table = np.asarray(probs, dtype=np.float64)
    truth = np.zeros_like(table)
    for row, target in enumerate(targets):
        truth[row, list(target) if isinstance(target, tuple) else target] = 1.0
    rows = np.arange(len(table))
    if kind == "classification":
        label = table.argmax(axis=1)
    else:
        rows, label = (part.ravel() for part in np.indices(table.shape))
    due = np.argwhere(truth > 0)
    return _Candidates(label, table[rows, label], truth[rows, label], due)


def _thresholds_by_label(goal: Goal, answers: _Candidates, num_labels: int) -> tuple[float | None, ...]:
    """The threshold of each label."""
    import numpy as np

    if not goal.per_label and goal.aim != "f1":
        everything = np.ones(len(answers.prob), dtype=bool)
        return (_threshold(goal, answers, everything, len(answers.due)),) * num_labels
    due = [int((answers.due[:, 1] == label).sum()) for label in range(num_labels)]
    return tuple(_threshold(goal, answers, answers.label == label, due[label]) for label in range(num_labels))


def _threshold(goal: Goal, answers: _Candidates, own: Any, num_due: int) -> float | None:
    """The threshold for these answers, half way to the next one below it; None if none reaches the goal."""
    import numpy as np

    order = np.argsort(-answers.prob[own], kind="stable")
    prob, hits = answers.prob[own][order], np.cumsum(answers.right[own][order])
    if not len(prob):
        return None
    given = np.arange(1, len(prob) + 1)
    ends = np.append(prob[1:] < prob[:-1], True)  # equal probabilities are accepted or rejected together
    if goal.aim == "f1":
        if not num_due:
            return None
        last = int(np.where(ends, 2 * hits / (given + num_due), -1).argmax())
    else:
        share = {"precision": (hits, given), "recall": (hits, max(num_due, 1)), "coverage": (given, len(prob))}
        holds = np.flatnonzero((lower_bound(*share[goal.aim]) >= (goal.target or 0)) & ends)
        if not len(holds):
            return None
        last = int(holds[-1] if goal.aim == "precision" else holds[0])
    below = prob[last + 1] if last + 1 < len(prob) else 0.0
    return float((prob[last] + below) / 2)


def lower_bound(hits: Any, rows: Any) -> Any:
    """The lower end of the 95% interval of a share, ``hits`` of ``rows``; both are numbers or arrays."""
    import numpy as np
    from scipy.stats import beta

    hits, rows = np.broadcast_arrays(np.asarray(hits, dtype=np.float64), np.asarray(rows, dtype=np.float64))
    bound = beta.ppf(1 - LEVEL, np.maximum(hits, 1), rows - hits + 1)
    return np.where(hits > 0, bound, 0.0)


def _cross_validated(
    goal: Goal,
    kind: Kind,
    labels: Sequence[str],
    scores: Sequence[Sequence[float]],
    targets: Sequence[Target],
    *,
    is_calibrated: bool,
) -> tuple[float, float] | None:
    """The share that four folds' calibration and thresholds reach on the fifth, over all folds; and its lower end."""
    import numpy as np

    if goal.target is None:
        return None
    hits = of = 0
    for fold in range(FOLDS):
        parts = [[row for row in range(len(scores)) if (row % FOLDS == fold) == is_in] for is_in in (False, True)]
        rest, own = (([scores[row] for row in part], [targets[row] for row in part]) for part in parts)
        calibration = fit_calibration(kind, labels, *rest).calibration if is_calibrated else None
        chosen, tried = (_candidates(kind, _calibrated(calibration, s), t) for s, t in (rest, own))
        values = np.array(
            [2.0 if value is None else value for value in _thresholds_by_label(goal, chosen, len(labels))]
        )
        is_given = tried.prob >= values[tried.label]
        hits += int(is_given.sum() if goal.aim == "coverage" else tried.right[is_given].sum())
        of += {"precision": int(is_given.sum()), "recall": len(tried.due), "coverage": len(tried.prob)}[goal.aim]
    return (hits / of, float(lower_bound(hits, of))) if of else None


def _calibrated(calibration: Calibration | None, scores: Sequence[Sequence[float]]) -> Sequence[Sequence[float]]:
    return scores if calibration is None else [calibration.probabilities(row) for row in scores]
