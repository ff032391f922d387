"""Chooses what a training starts from: a short trial of the store's adapters, and of random weights.

Every candidate trains for a few steps on the same rows, all in one fused pass; the best by validation is the start. A
trial is a whole short training with its own warm-up and decay, because the first steps of a long one tell little.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from polytask.adapters.adapter import Adapter
from polytask.adapters.header import Header
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.data.encoding import Encodings
from polytask.data.task import Rows, Task, describe_constant_targets
from polytask.dropout import key_seed
from polytask.errors import RecipeError
from polytask.methods import Method
from polytask.training.fused import measured_budget
from polytask.training.job import Job
from polytask.training.loop import train_jobs
from polytask.training.recipe import Recipe
from polytask.training.start import AUTO, Start, StartFrom, recorded_start, start_from

SHARE = 0.1
"""The most steps of one candidate, as a share of those of the training."""
BUDGET = 0.5
"""The most steps of all candidates together, as a share of those of the training."""
MIN_STEPS = 10
"""The least steps of one candidate, which comes before ``SHARE`` and ``BUDGET``."""
MAX_CANDIDATES = 8
MAX_VALIDATION_ROWS = 500
NOTHING = "random weights"


@dataclass(frozen=True)
class StartTrial:
    """A candidate, and its best validation score after the trial's steps; None if it diverged."""

    name: str
    score: float | None


@dataclass(frozen=True)
class ChosenStart:
    """The start that a trial chose.

    Attributes:
        start: None for random weights.
        trials: all candidates, in the order in which they were given; random weights first.
        steps: the steps of all candidates together.
        why: one sentence that explains the choice.
    """

    start: Start | None
    trials: tuple[StartTrial, ...]
    steps: int
    why: str


def choose_start(
    backbone: Backbone, task: Task, recipe: Recipe | None = None, candidates: Mapping[str, Adapter] | None = None
) -> ChosenStart:
    """Choose among adapters and random weights by a short trial.

    Each candidate trains for a tenth of the steps of the training, or less if all together would take more than half of
    them, but at least for 10. Random weights win ties.

    Args:
        backbone: a frozen backbone.
        task: the task that is to be trained. Its validation rows choose.
        recipe: how it will be trained.
        candidates: adapters by name, for example from ``candidates_in``.

    Raises:
        RecipeError: an adapter has another method, or all candidates diverged.
        IncompatibleAdapter: an adapter was trained on another backbone.
    """
    recipe = recipe or Recipe()
    starts: dict[str, Start | None] = {NOTHING: None}
    starts |= {name: Start.of([adapter], [name]) for name, adapter in (candidates or {}).items()}
    if len(starts) == 1:
        return ChosenStart(None, (), 0, "no adapter of the store can be the start; it starts from random weights")
    encodings = Encodings(backbone.tokenizer)
    own, short = trial_of(task, recipe.resolved(len(task.train), task.kind), len(starts))
    jobs = [Job(backbone, own, short, name, encodings, start) for name, start in starts.items()]
    train_jobs(backbone, jobs, budget_tokens=measured_budget(backbone, jobs))
    healthy = [job for job in jobs if job.failure is None]
    if not healthy:
        raise RecipeError(f"all {len(jobs)} candidates diverged in the trial. The first one: {jobs[0].failure}")
    best = max(healthy, key=lambda job: (job.best_score, -min(epoch["loss"] for epoch in job.history)))
    if best.best_score == jobs[0].best_score:
        best = jobs[0]
    trials = tuple(StartTrial(job.name, None if job.failure else job.best_score) for job in jobs)
    return ChosenStart(starts[best.name], trials, sum(job.step for job in jobs), _why(best, jobs))


def start_or_trial(
    given: StartFrom,
    store: Store,
    backbone: Backbone,
    task: Task,
    recipe: Recipe,
    *,
    interrupted: Mapping[str, Any] | None = None,
) -> tuple[Start | None, ChosenStart | None]:
    """The start that is given, or with ``auto`` the one that a trial chooses, and that choice.

    Args:
        given: adapters, names in ``store`` or ``auto``.
        store: the store whose adapters are candidates.
        backbone, task, recipe: as in ``choose_start``.
        interrupted: what the checkpoint of an interrupted run says about the job, if it is resumed. Its start is taken
            instead of a second trial.
    """
    if given != AUTO:
        return start_from(given, store), None
    if interrupted is not None:
        return recorded_start(interrupted.get("start"), store), None
    method = recipe.method.fitted(backbone.row.is_pre_norm)
    chosen = choose_start(backbone, task, recipe, candidates_in(store, backbone, task, method))
    return chosen.start, chosen


def candidates_in(store: Store, backbone: Backbone, task: Task, method: Method) -> dict[str, Adapter]:
    """The adapters of a store that a training could start from, by name.

    They are the latest versions of other tasks with this method on this backbone. An adapter that was trained on the
    task's own data is left out, because it may have seen the validation rows. Of more than 8, those with the most
    training rows are taken.
    """
    entries = [store.entry(name) for name in store.tasks() if name != task.name]
    fitting = [entry for entry in entries if _fits(entry.header, backbone, method)]
    fitting = [entry for entry in fitting if entry.header.result.get("data_digest") != task.digest]
    fitting.sort(key=lambda entry: _num_rows(entry.header), reverse=True)
    return {str(entry): store.get(str(entry)) for entry in fitting[:MAX_CANDIDATES]}


def trial_of(task: Task, recipe: Recipe, num_candidates: int) -> tuple[Task, Recipe]:
    """The task with the rows of a trial, and its recipe.

    Args:
        task: the whole task.
        recipe: the recipe of the training, with its epochs chosen.
        num_candidates: how many candidates train.
    """
    steps_an_epoch = -(-len(task.train) // recipe.batch_size)
    whole = steps_an_epoch * (recipe.epochs or 1)
    steps = max(MIN_STEPS, round(whole * min(SHARE, BUDGET / num_candidates)))
    draw = random.Random(key_seed(recipe.seed, task.digest, "trial"))
    epochs = max(1, round(steps / steps_an_epoch))
    own = replace(task, validation=_some(task.validation, MAX_VALIDATION_ROWS, draw), test=None)
    if steps < steps_an_epoch:
        own = replace(own, train=_learnable(task, steps * recipe.batch_size, draw))
    return own, replace(recipe, epochs=epochs, patience=None)


def _some(rows: Rows, count: int, draw: random.Random) -> Rows:
    """At most so many of the rows, in their order."""
    return rows if len(rows) <= count else rows.take(sorted(draw.sample(range(len(rows)), count)))


def _learnable(task: Task, count: int, draw: random.Random) -> Rows:
    """So many of the training rows, at least two, and not all with one target."""
    targets = task.train.targets or ()
    chosen = draw.sample(range(len(task.train)), max(2, count))
    if describe_constant_targets(task.kind, [targets[row] for row in chosen], task.labels) is not None:
        chosen[-1] = next(row for row, target in enumerate(targets) if target != targets[chosen[0]])
    return task.train.take(sorted(chosen))


def _fits(header: Header, backbone: Backbone, method: Method) -> bool:
    own = (header.backbone.fingerprint, header.tokenizer, header.pooling, header.method.explicit())
    return own == (backbone.fingerprint, backbone.tokenizer_fingerprint, backbone.pooling, method.explicit())


def _num_rows(header: Header) -> int:
    train = header.result.get("train")
    rows = train.get("rows") if isinstance(train, Mapping) else None
    return rows if isinstance(rows, int) else 0


def _why(best: Job, jobs: list[Job]) -> str:
    """``it starts from mood@1: accuracy 0.81 after 15 steps; the next best of 3 candidates, …, had 0.72``."""
    others = [job for job in jobs if job is not best and job.failure is None]
    sentence = f"it starts from {best.name}: {best.task.metric} {best.best_score:.3f} after {best.step:,} steps"
    if others:
        second = max(others, key=lambda job: job.best_score)
        sentence += f"; the next best of {len(jobs)} candidates, {second.name}, had {second.best_score:.3f}"
    return sentence
