"""Chooses between a probe and another method by cross-validation, for tasks with few rows.

On few rows a probe is often better than an adapter, and sometimes much worse, and the validation rows are too few to
tell. So the training rows are divided into folds, and both methods answer each fold after training on the others. All
folds train in the same steps. The probe, which is simpler, is chosen unless the other method is better by more than a
standard error (Breiman et al., Classification and Regression Trees, 1984, section 3.4.3).
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from polytask.backbones.backbone import Backbone
from polytask.data.encoding import Encodings
from polytask.data.task import Target, Task, describe_constant_targets
from polytask.dropout import key_seed
from polytask.errors import PolytaskWarning, RecipeError
from polytask.evaluation.metrics import score
from polytask.evaluation.significance import paired_test
from polytask.methods import Probe
from polytask.training.fused import measured_budget
from polytask.training.job import Job
from polytask.training.loop import run_jobs
from polytask.training.probe import MAX_ROWS
from polytask.training.recipe import Recipe
from polytask.training.result import label_counts
from polytask.training.scoring import labels_of, scores_on

FOLDS = 5
ONE_STANDARD_ERROR = 0.32
"""The two-sided p-value of a difference of one standard error."""
FEW_ROWS = 64
"""Up to this many training rows per label, ``polytask train`` chooses the method unless one is given."""


@dataclass(frozen=True)
class MethodTrial:
    """A method, and its score over all rows, each held out once."""

    name: str
    score: float


@dataclass(frozen=True)
class ChosenMethod:
    """The recipe whose method a cross-validation chose.

    Attributes:
        recipe: the given recipe, or that of a probe.
        trials: the probe and the method, with their scores; empty if there were too few rows to compare them.
        p_value: of the difference between the scores, in a paired bootstrap test; None without a comparison.
        why: one sentence that explains the choice.
    """

    recipe: Recipe
    trials: tuple[MethodTrial, ...]
    p_value: float | None
    why: str


def choose_method(backbone: Backbone, task: Task, recipe: Recipe | None = None) -> ChosenMethod:
    """Choose between a probe and the method of a recipe by cross-validation on the training rows.

    The other method trains five times, on four fifths of the rows each, and is chosen if it is better by more than a
    standard error. If there are too few rows for cross-validation, the probe is chosen.

    Args:
        backbone: a frozen backbone.
        task: the task that is to be trained.
        recipe: how the other method is trained.

    Raises:
        RecipeError: a probe cannot do the task, or there are so many rows that the comparison would take long.
    """
    recipe = recipe or Recipe()
    probe = replace(recipe, method=Probe())
    probe.fitted(task.kind, recipe.max_length)
    if len(task.train) > MAX_ROWS:
        raise RecipeError(
            f"with more than {MAX_ROWS:,} training rows, cross-validation takes too long to choose a method. "
            "Choose one, such as houlsby"
        )
    folds = folds_of(task, recipe.seed)
    if not folds:
        return ChosenMethod(probe, (), None, "the method is probe: there are too few rows for cross-validation")
    encodings, both = Encodings(backbone.tokenizer), (probe, recipe)
    given = [_answers(backbone, folds, own, encodings) for own in both]
    truth = [target for fold in folds for target in labels_of(fold.validation, fold)]
    of: Any = {"num_labels": len(task.labels)}
    found = paired_test(task.metric, task.kind, truth, *given, **of)
    values = [score(task.metric, task.kind, truth, answers, **of) for answers in given]
    trials = tuple(MethodTrial(own.method.name, value) for own, value in zip(both, values))
    chosen = recipe if found.difference > 0 and found.p_value < ONE_STANDARD_ERROR else probe
    return ChosenMethod(chosen, trials, found.p_value, _why(chosen, task.metric, trials))


def _why(chosen: Recipe, metric: str, trials: Sequence[MethodTrial]) -> str:
    """``the method is probe: accuracy is 0.750 with probe and 0.781 with houlsby in cross-validation, which …``."""
    of_probe, other = trials
    compared = (
        f"{metric} is {of_probe.score:.3f} with probe and {other.score:.3f} with {other.name} in cross-validation"
    )
    is_close = chosen.method.name == of_probe.name and other.score > of_probe.score
    return f"the method is {chosen.method.name}: {compared}{', which is within a standard error' if is_close else ''}"


def has_few_rows(task: Task) -> bool:
    """Whether the labels of a task have few training rows: half of them at most ``FEW_ROWS``."""
    if task.kind not in ("classification", "multilabel"):
        return False
    counts = sorted(label_counts(task).values())
    return counts[len(counts) // 2] <= FEW_ROWS


def method_or_trial(
    backbone: Backbone, task: Task, recipe: Recipe, *, interrupted: Mapping[str, Any] | None = None
) -> tuple[Recipe, ChosenMethod | None]:
    """The recipe of the method that ``choose_method`` chooses, and that choice.

    Args:
        backbone, task, recipe: as in ``choose_method``.
        interrupted: what the checkpoint of an interrupted run says about the job, if it is resumed. Its recipe is taken
            instead of a second trial.
    """
    if interrupted is not None:
        return Recipe.from_json(interrupted["recipe"]), None
    chosen = choose_method(backbone, task, recipe)
    return chosen.recipe, chosen


def folds_of(task: Task, seed: int) -> list[Task]:
    """The task with each fold in turn as its validation rows.

    Rows of a class, or with similar numbers, are spread over all folds. The list is empty if the training rows of a
    fold would all have one target.
    """
    targets = labels_of(task.train, task)
    rows = list(range(len(targets)))
    random.Random(key_seed(seed, task.digest, "folds")).shuffle(rows)
    rows.sort(key=lambda row: targets[row])
    folds = []
    for number in range(FOLDS):
        held_out = sorted(rows[number::FOLDS])
        others = sorted({*rows} - {*held_out})
        if not held_out or describe_constant_targets(task.kind, [targets[row] for row in others], task.labels):
            return []
        folds.append(replace(task, train=task.train.take(others), validation=task.train.take(held_out), test=None))
    return folds


def _answers(backbone: Backbone, folds: Sequence[Task], recipe: Recipe, encodings: Encodings) -> list[Target]:
    """The answers to the rows of each fold, in order, after the last epoch on the other folds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PolytaskWarning)  # they are given of the training itself
        jobs = [Job(backbone, fold, recipe, f"fold {number}", encodings) for number, fold in enumerate(folds)]
    budget_tokens = None if isinstance(recipe.method, Probe) else measured_budget(backbone, jobs)
    for _ in run_jobs(backbone, jobs, budget_tokens=budget_tokens):
        pass
    answers: list[Target] = []
    for job in jobs:
        if job.failure is not None:
            raise job.failure
        answers += [job.live.head.prediction(row) for row in scores_on(backbone, job, job.validation)]
    return answers
