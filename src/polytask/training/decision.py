"""Decides how a trained adapter answers: its thresholds, and which texts get none of its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from polytask.backbones.backbone import Backbone
from polytask.data.task import Kind, Task
from polytask.errors import DataError
from polytask.evaluation.calibration import Calibration
from polytask.evaluation.decision import Decision
from polytask.evaluation.none_of_these import DetectNone
from polytask.evaluation.thresholds import Goal
from polytask.training.calibration import choose_for_goal, measure_thresholds
from polytask.training.job import Job
from polytask.training.job_checks import check_type
from polytask.training.none_of_these import fit_detector
from polytask.training.result import Result


@dataclass(frozen=True)
class Extras:
    """What to add to an adapter after its training.

    Attributes:
        goal: what its thresholds must reach; None for no thresholds.
        none: how to detect texts that have none of its labels; None for no detector.
        probe: whether to score a probe on the same rows.
    """

    goal: Goal | None = None
    none: DetectNone | None = None
    probe: bool = False

    def check(self, kind: Kind) -> None:
        """Refuse extras that a task of this kind cannot have.

        Raises:
            RecipeError: with the extras that it can have.
        """
        for own in (self.goal, self.none):
            if own is not None:
                own.check(kind)

    def prepared(self, task: Task) -> tuple[Task, Extras]:
        """The task without the rows of the label that means "none of these", and the extras with those rows.

        Raises:
            RecipeError: a task of this kind cannot have these extras.
            DataError: this is not a task, or it has no such label.
        """
        check_type(task, Task, DataError)
        self.check(task.kind)
        if self.none is None:
            return task, self
        task, none = self.none.taken_out_of(task)
        return task, replace(self, none=none)


NO_EXTRAS = Extras()


@dataclass(frozen=True)
class DecisionFields:
    """The fields of a header that decide answers, the tensors that they need, and the result with their scores."""

    fields: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    result: Result


def decide(
    backbone: Backbone,
    job: Job,
    result: Result,
    calibration: Calibration | None,
    on_validation: Sequence[Any],
    on_test: Sequence[Any] | None,
    extras: Extras,
) -> DecisionFields:
    """Choose thresholds and fit a detector for a trained job.

    Args:
        backbone: the backbone of the job.
        job: a trained job.
        result: its result so far.
        calibration: its calibration; None if it has none.
        on_validation: the head's scores of the validation rows, ``[K]`` each.
        on_test: those of the test rows; None if there are none.
        extras: what to add.
    """
    task = job.task
    chosen = choose_for_goal(task, extras.goal, on_validation, calibration)
    detector = fit_detector(backbone, job, extras.none)
    decision = Decision(task.kind, task.labels, calibration, chosen.thresholds, detector.none)
    measured = measure_thresholds(task, extras.goal, chosen, decision, on_test)
    return DecisionFields(
        decision.to_json(), detector.tensors, replace(result, thresholds=measured, none=detector.report)
    )
