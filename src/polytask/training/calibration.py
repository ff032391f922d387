"""Calibrates a trained job on its validation rows, and measures the effect on test rows (or by cross-fitting)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polytask.data.task import Task
from polytask.evaluation.calibration import Calibration, Conformal
from polytask.evaluation.calibration_fit import FittedCalibration, cross_fitted_probabilities, fit_calibration
from polytask.evaluation.decision import Decision
from polytask.evaluation.reliability import coverage, reliability
from polytask.evaluation.selective import accuracy_by_coverage, measured_answers
from polytask.evaluation.thresholds import ChosenThresholds, Goal, choose_thresholds

Numbers = Sequence[Sequence[float]]


def fit_on_validation(task: Task, scores: Sequence[Any]) -> FittedCalibration:
    """Fit a task's calibration to the head's scores of its validation rows."""
    if task.kind == "span":
        return FittedCalibration(None)
    return fit_calibration(task.kind, task.labels, as_lists(scores), task.validation.targets or ())


def measure_calibration(
    task: Task, found: FittedCalibration, validation: Sequence[Any], test: Sequence[Any] | None
) -> dict[str, Any] | None:
    """What the card reports about a calibration: ``notes``, and the errors ``before`` and ``after`` it.

    They are measured on the test rows. Without test rows, each validation row is calibrated by the other folds.

    Args:
        task: the task.
        found: its calibration.
        validation: the head's scores of the validation rows, ``[K]`` each.
        test: those of the test rows; None if there are none.
    """
    report: dict[str, Any] = {"notes": list(found.notes)}
    if found.calibration is None:
        return report if found.notes else None
    rows = task.test if test is not None else task.validation
    assert rows is not None, "rows with scores exist"
    assert rows.targets is not None, "scored rows have targets"
    scores, targets = as_lists(validation if test is None else test), rows.targets
    report |= {"on": "validation" if test is None else "test", "rows": len(targets)}
    if isinstance(found.calibration, Conformal):
        return report if test is None else {**report, **coverage(found.calibration, scores, targets)}
    after = _calibrated(task, found.calibration, scores, targets, is_cross_fitted=test is None)
    both = {name: reliability(task.kind, probs, targets) for name, probs in (("before", scores), ("after", after))}
    report |= {name: of.to_json() for name, of in both.items()}
    return {**report, "curve": accuracy_by_coverage(after, targets)} if task.kind == "classification" else report


def choose_for_goal(
    task: Task, goal: Goal | None, scores: Sequence[Any], calibration: Calibration | None
) -> ChosenThresholds:
    """Choose thresholds for a goal from the head's scores of the validation rows; none without a goal."""
    if goal is None:
        return ChosenThresholds(None)
    targets = task.validation.targets or ()
    return choose_thresholds(goal, task.kind, task.labels, as_lists(scores), targets, calibration)


def measure_thresholds(
    task: Task, goal: Goal | None, found: ChosenThresholds, decision: Decision, test: Sequence[Any] | None
) -> Any:
    """What the card reports about thresholds: ``notes``, and what they reach in cross-validation and on test rows."""
    if goal is None:
        return None
    report: dict[str, Any] = {"notes": list(found.notes), "goal": goal.aim, "target": goal.target}
    if found.cross_checked is not None:
        report["cross_checked"] = list(found.cross_checked)
    if found.thresholds is None or test is None or task.test is None:
        return report
    return {**report, "test": measured_answers(decision, as_lists(test), task.test.targets or ())}


def _calibrated(
    task: Task, calibration: Calibration, scores: Numbers, targets: Sequence[Any], *, is_cross_fitted: bool
) -> Numbers:
    if is_cross_fitted:
        return cross_fitted_probabilities(task.kind, task.labels, scores, targets)
    return [calibration.probabilities(row) for row in scores]


def as_lists(scores: Sequence[Any]) -> Numbers:
    """Convert tensors ``[K]`` to lists."""
    return [row.tolist() for row in scores]
