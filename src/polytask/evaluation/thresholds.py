"""Thresholds: from which probability on an answer stands; below it the adapter abstains.

A threshold is chosen for a goal on the validation rows (``choose``): the most answers of which a share ``target`` is
right (``precision``), or the fewest that find such a share of what is to be found (``recall``) or answer such a share
of the rows (``coverage``). What must reach the target is not the share on these rows but the lower end of its 95%
interval (one-sided, Clopper and Pearson 1934). ``f1`` takes what is best on these rows, for several labels only.

Unusual here: what a threshold holds on rows that it was not chosen on is measured and said (``cross_checked``): each
fifth of the rows by the calibration and the thresholds of the other four, because the same rows chose them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from polytask.data.task import Kind, Target
from polytask.errors import AdapterError, RecipeError
from polytask.evaluation.calibration import Calibration
from polytask.evaluation.calibration_fit import fit

Aim = Literal["precision", "recall", "coverage", "f1"]
LEVEL = 0.95
FOLDS = 5
_FIELDS: dict[str, Any] = {"goal": str, "target": (float, int, type(None)), "values": list, "rows": int}


@dataclass(frozen=True)
class Goal:
    """What thresholds are to hold: ``target`` is a share, None for ``f1``; one for all labels or one a label.

    Raises:
        RecipeError: there is no such goal, or the target is no share.
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
            RecipeError: with what would be right.
        """
        if kind not in ("classification", "multilabel"):
            raise RecipeError(f"thresholds are for labels; this task is {kind}. Leave --{self.aim} out")
        if self.aim == ("f1" if kind == "classification" else "coverage"):
            right = "precision, recall or " + ("coverage" if kind == "classification" else "f1")
            raise RecipeError(f"a {kind} task has no threshold for {self.aim}; it can be for {right}")


@dataclass(frozen=True)
class Thresholds:
    """The probability from which each label stands, None where it never does; ``rows`` chose them."""

    goal: Aim
    target: float | None
    values: tuple[float | None, ...]
    rows: int

    def stands(self, label: int, prob: float) -> bool:
        """Whether an answer of this probability does."""
        cut = self.values[label]
        return cut is not None and prob >= cut

    def to_json(self) -> dict[str, Any]:
        """As the header has them."""
        return {"goal": self.goal, "target": self.target, "values": list(self.values), "rows": self.rows}


def thresholds_from_json(given: Mapping[str, Any], kind: Kind, num_labels: int) -> Thresholds:
    """Thresholds as the header has them, for a head of this kind.

    Raises:
        AdapterError: they are none, or do not fit the head.
    """
    if set(given) != set(_FIELDS) or not all(isinstance(given[name], of) for name, of in _FIELDS.items()):
        raise AdapterError(f"'thresholds' has the fields {', '.join(_FIELDS)}, each of its type; it has others")
    values = given["values"]
    sound = all(value is None or (type(value) in (int, float) and 0 <= value <= 1) for value in values)
    if len(values) != num_labels or not sound or type(given["rows"]) is not int or given["rows"] < 1:
        raise AdapterError(f"'thresholds' holds no probability, or null, for each of {num_labels} labels")
    try:
        Goal(given["goal"], given["target"]).check(kind)
    except RecipeError as error:
        raise AdapterError(f"'thresholds': {error}") from error
    return Thresholds(cast(Aim, given["goal"]), given["target"], tuple(values), given["rows"])


@dataclass(frozen=True)
class Chosen:
    """Thresholds, or None where the goal cannot be held; what is to be said of them; what they hold on other rows."""

    thresholds: Thresholds | None
    notes: tuple[str, ...] = ()
    cross_checked: tuple[float, float] | None = None
    """The share that the goal is about and its lower end, each fold by the thresholds of the others."""


def choose(
    goal: Goal,
    kind: Kind,
    labels: Sequence[str],
    scores: Sequence[Sequence[float]],
    targets: Sequence[Target],
    calibration: Calibration | None = None,
) -> Chosen:
    """The thresholds that hold a goal on labelled rows.

    Args:
        scores: ``[N, K]``, as the head gives them.
        calibration: what the adapter's probabilities are made with; thresholds are about these.
    """
    goal.check(kind)
    answers = _answers(kind, _calibrated(calibration, scores), targets)
    values = _values(goal, answers, len(labels))
    never = [label for label, value in zip(labels, values, strict=True) if value is None]
    what = f"{goal.aim} {goal.target}"
    if len(never) == len(labels):
        least = f"no threshold holds {what} for sure on {len(scores):,} validation rows, so none is set"
        return Chosen(None, (f"{least}. Give more validation rows, or ask for less",))
    notes: tuple[str, ...] = (
        () if not never else (f"never answered, because no threshold holds {what}: {', '.join(never[:5])}",)
    )
    checked = _cross_checked(goal, kind, labels, scores, targets, is_calibrated=calibration is not None)
    if checked is not None and goal.target is not None and checked[0] < goal.target:
        notes += (f"on rows that did not choose them, thresholds held {goal.aim} {checked[0]:.3f}, not {goal.target}",)
    return Chosen(Thresholds(goal.aim, goal.target, values, len(scores)), notes, checked)


@dataclass(frozen=True)
class _Answers:
    """Answers that may stand, one each: label, probability, whether it is right; ``due``: row and label to be found."""

    label: Any
    prob: Any
    right: Any
    due: Any


def _answers(kind: Kind, probs: Sequence[Sequence[float]], targets: Sequence[Target]) -> _Answers:
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
    return _Answers(label, table[rows, label], truth[rows, label], due)


def _values(goal: Goal, answers: _Answers, num_labels: int) -> tuple[float | None, ...]:
    """A threshold for each label."""
    import numpy as np

    if not goal.per_label and goal.aim != "f1":
        everything = np.ones(len(answers.prob), dtype=bool)
        return (_cut(goal, answers, everything, len(answers.due)),) * num_labels
    due = [int((answers.due[:, 1] == label).sum()) for label in range(num_labels)]
    return tuple(_cut(goal, answers, answers.label == label, due[label]) for label in range(num_labels))


def _cut(goal: Goal, answers: _Answers, own: Any, num_due: int) -> float | None:
    """The threshold over these answers, half way to the next one; None where none holds the goal."""
    import numpy as np

    order = np.argsort(-answers.prob[own], kind="stable")
    prob, hits = answers.prob[own][order], np.cumsum(answers.right[own][order])
    if not len(prob):
        return None
    given = np.arange(1, len(prob) + 1)
    ends = np.append(prob[1:] < prob[:-1], True)  # equal probabilities stand or fall together
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
    """What a share is at least, with 95% confidence: ``hits`` of ``rows``, numbers or arrays."""
    import numpy as np
    from scipy.stats import beta

    hits, rows = np.broadcast_arrays(np.asarray(hits, dtype=np.float64), np.asarray(rows, dtype=np.float64))
    bound = beta.ppf(1 - LEVEL, np.maximum(hits, 1), rows - hits + 1)
    return np.where(hits > 0, bound, 0.0)


def _cross_checked(
    goal: Goal,
    kind: Kind,
    labels: Sequence[str],
    scores: Sequence[Sequence[float]],
    targets: Sequence[Target],
    *,
    is_calibrated: bool,
) -> tuple[float, float] | None:
    """What the calibration and the thresholds of four folds hold on the fifth, over all five."""
    import numpy as np

    if goal.target is None:
        return None
    hits = of = 0
    for fold in range(FOLDS):
        parts = [[row for row in range(len(scores)) if (row % FOLDS == fold) == is_in] for is_in in (False, True)]
        rest, own = (([scores[row] for row in part], [targets[row] for row in part]) for part in parts)
        calibration = fit(kind, labels, *rest).calibration if is_calibrated else None
        chosen, tried = (_answers(kind, _calibrated(calibration, s), t) for s, t in (rest, own))
        values = np.array([2.0 if value is None else value for value in _values(goal, chosen, len(labels))])
        stands = tried.prob >= values[tried.label]
        hits += int(stands.sum() if goal.aim == "coverage" else tried.right[stands].sum())
        of += {"precision": int(stands.sum()), "recall": len(tried.due), "coverage": len(tried.prob)}[goal.aim]
    return (hits / of, float(lower_bound(hits, of))) if of else None


def _calibrated(calibration: Calibration | None, scores: Sequence[Sequence[float]]) -> Sequence[Sequence[float]]:
    return scores if calibration is None else [calibration.probabilities(row) for row in scores]
