"""Calibrating a trained job on its validation rows, and measuring what that does: on the test rows where there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polytask.data.task import Task
from polytask.evaluation.calibration import Calibration, Conformal
from polytask.evaluation.calibration_fit import Fitted, cross_fitted, fit
from polytask.evaluation.decision import Decision
from polytask.evaluation.reliability import coverage, reliability
from polytask.evaluation.selective import curve, measured_answers
from polytask.evaluation.thresholds import Chosen, Goal, choose

Numbers = Sequence[Sequence[float]]


def fitted(task: Task, scores: Sequence[Any]) -> Fitted:
    """The calibration of a task by the head's scores of its validation rows."""
    if task.kind == "span":
        return Fitted(None)
    return fit(task.kind, task.labels, numbers(scores), task.validation.targets or ())


def measured(task: Task, found: Fitted, validation: Sequence[Any], test: Sequence[Any] | None) -> dict[str, Any] | None:
    """What the card says of a calibration: ``notes``, and the errors ``before`` and ``after`` on rows not fitted.

    These are the test rows; where there are none, each validation row by the calibration of the other folds.
    """
    said: dict[str, Any] = {"notes": list(found.notes)}
    if found.calibration is None:
        return said if found.notes else None
    rows = task.test if test is not None else task.validation
    assert rows is not None, "what was scored is there"
    assert rows.targets is not None, "scored rows have targets"
    scores, targets = numbers(validation if test is None else test), rows.targets
    said |= {"on": "validation" if test is None else "test", "rows": len(targets)}
    if isinstance(found.calibration, Conformal):
        return said if test is None else {**said, **coverage(found.calibration, scores, targets)}
    after = _calibrated(task, found.calibration, scores, targets, is_cross_fitted=test is None)
    both = {name: reliability(task.kind, probs, targets) for name, probs in (("before", scores), ("after", after))}
    said |= {name: of.to_json() for name, of in both.items()}
    return {**said, "curve": curve(after, targets)} if task.kind == "classification" else said


def chosen(task: Task, goal: Goal | None, scores: Sequence[Any], calibration: Calibration | None) -> Chosen:
    """The thresholds for a goal by the head's scores of the validation rows; none where there is no goal."""
    if goal is None:
        return Chosen(None)
    targets = task.validation.targets or ()
    return choose(goal, task.kind, task.labels, numbers(scores), targets, calibration)


def held(task: Task, goal: Goal | None, found: Chosen, decision: Decision, test: Sequence[Any] | None) -> Any:
    """What the card says of thresholds: ``notes``, what they hold by cross-checking, and on the test rows."""
    if goal is None:
        return None
    said: dict[str, Any] = {"notes": list(found.notes), "goal": goal.aim, "target": goal.target}
    if found.cross_checked is not None:
        said["cross_checked"] = list(found.cross_checked)
    if found.thresholds is None or test is None or task.test is None:
        return said
    return {**said, "test": measured_answers(decision, numbers(test), task.test.targets or ())}


def _calibrated(
    task: Task, calibration: Calibration, scores: Numbers, targets: Sequence[Any], *, is_cross_fitted: bool
) -> Numbers:
    if is_cross_fitted:
        return cross_fitted(task.kind, task.labels, scores, targets)
    return [calibration.probabilities(row) for row in scores]


def numbers(scores: Sequence[Any]) -> Numbers:
    """Tensors ``[K]`` as lists."""
    return [row.tolist() for row in scores]
