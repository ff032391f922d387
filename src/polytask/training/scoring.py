"""Scores jobs on validation and test rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polytask.adapters.attach import Attached
from polytask.adapters.header import Inputs
from polytask.adapters.module import LoadedAdapter
from polytask.backbones.backbone import Backbone
from polytask.data.encoding import Encoded
from polytask.data.task import Rows, Target, Task
from polytask.errors import DataError
from polytask.evaluation.metrics import score
from polytask.evaluation.significance import bootstrap_interval
from polytask.inference.scoring import scores_of
from polytask.training.job import Job, attached_to
from polytask.training.result import Score


def validate(backbone: Backbone, attached: Attached, job: Job) -> float:
    """The score of a job's current parameters on its validation rows, or the mean of those of its parts."""
    where, keep = (backbone, attached), job.recipe.keep_prefix
    with job.averaged():
        scores = [
            score_on(*where, own.live, job.name, own.task, own.task.validation, own.validation, keep_prefix=keep)
            for own in job.parts
        ]
    return sum(scores) / len(scores)


def score_on(
    backbone: Backbone,
    attached: Attached,
    live: LoadedAdapter,
    name: str,
    task: Task,
    rows: Rows,
    encoded: Encoded,
    *,
    keep_prefix: bool = False,
) -> float:
    """The task's metric on labelled rows, for the adapter attached as ``name``."""
    predictions = predictions_of(backbone, attached, live, name, encoded, keep_prefix=keep_prefix)
    return score(task.metric, task.kind, labels_of(rows, task), predictions, num_labels=len(task.labels))


def predictions_of(
    backbone: Backbone,
    attached: Attached,
    live: LoadedAdapter,
    name: str,
    encoded: Encoded,
    *,
    keep_prefix: bool = False,
) -> list[Target]:
    """The answers of the adapter attached as ``name``, in the form of targets."""
    names = [name] * encoded.num_rows
    scores = scores_of(backbone, attached, {name: live}, encoded, names, keep_prefix=keep_prefix)
    return [live.head.prediction(row) for row in scores]


def labels_of(rows: Rows, task: Task) -> list[Target]:
    """The targets of labelled rows.

    Raises:
        DataError: the rows have none.
    """
    if rows.targets is None:
        raise DataError(f"the rows of task {task.name!r} have no labels to score against")
    return list(rows.targets)


def inputs_of(task: Task) -> Inputs:
    """What a row of the task is."""
    if task.kind == "span":
        return "question+context"
    return "single" if task.train.pairs is None else "pair"


def scores_on(backbone: Backbone, job: Job, encoded: Encoded) -> list[Any]:
    """The head's scores of rows, for a trained job."""
    names = [job.name] * encoded.num_rows
    with attached_to(backbone, [job]) as attached:
        own = {job.name: job.live}
        return scores_of(backbone, attached, own, encoded, names, keep_prefix=job.recipe.keep_prefix)


def score_with_interval(job: Job, rows: Rows, scores: Sequence[Any], value: float | None = None) -> Score:
    """The score of a trained job on labelled rows with its interval; ``value`` is the score if it is known already."""
    task = job.task
    predictions = [job.live.head.prediction(row) for row in scores]
    of = (task.metric, task.kind, labels_of(rows, task), predictions)
    value = score(*of, num_labels=len(task.labels)) if value is None else value
    return Score(task.metric, value, len(rows), bootstrap_interval(*of, num_labels=len(task.labels)))


def test_scores(backbone: Backbone, job: Job) -> list[Any] | None:
    """The head's scores of the task's test rows, for a trained job; None without labelled test rows."""
    rows = job.task.test
    if rows is None or rows.targets is None:
        return None
    return scores_on(backbone, job, job.encodings.of(rows, *job.cut))
