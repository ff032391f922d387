"""What is decided for an adapter after its training: thresholds, and which texts have none of its labels."""

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
from polytask.training.calibrate import chosen, held
from polytask.training.job import Job, check_type
from polytask.training.none import detected
from polytask.training.result import Result


@dataclass(frozen=True)
class Wanted:
    """What is wanted of an adapter beside its scores.

    Attributes:
        goal: what its thresholds are to hold; None for none.
        none: how to detect texts of none of its labels; None for not at all.
        probe: whether a probe is scored beside it.
    """

    goal: Goal | None = None
    none: DetectNone | None = None
    probe: bool = False

    def check(self, kind: Kind) -> None:
        """Refuse what a task of this kind cannot have.

        Raises:
            RecipeError: with what would be right.
        """
        for own in (self.goal, self.none):
            if own is not None:
                own.check(kind)

    def prepared(self, task: Task) -> tuple[Task, Wanted]:
        """The task without the rows of the label that means none of these, and the same wishes with them.

        Raises:
            RecipeError: the task cannot have what is wanted.
            DataError: it is not a task, or has no such label.
        """
        check_type(task, Task, DataError)
        self.check(task.kind)
        if self.none is None:
            return task, self
        task, none = self.none.taken_out_of(task)
        return task, replace(self, none=none)


NOTHING = Wanted()


@dataclass(frozen=True)
class Decided:
    """The header's fields on answers, tensors that they need, and the result with what they hold."""

    fields: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    result: Result


def decided(
    backbone: Backbone,
    job: Job,
    result: Result,
    calibration: Calibration | None,
    on_validation: Sequence[Any],
    on_test: Sequence[Any] | None,
    wanted: Wanted,
) -> Decided:
    """Thresholds and a detector for a trained job, by the scores of its head."""
    task = job.task
    cuts = chosen(task, wanted.goal, on_validation, calibration)
    found = detected(backbone, job, wanted.none)
    decision = Decision(task.kind, task.labels, calibration, cuts.thresholds, found.none)
    result = replace(result, thresholds=held(task, wanted.goal, cuts, decision, on_test), none=found.said)
    return Decided(decision.to_json(), found.tensors, result)
