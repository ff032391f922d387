"""Seconds per token of training and of answering, from a few steps of jobs that are timed in turns.

Medians of these count, because another process can make single measurements several times too long.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from polytask.backbones.backbone import Backbone
from polytask.data.task import Rows, Task
from polytask.inference.scoring import scores_of
from polytask.suites.tasks import drawn
from polytask.training.job import Job, attached_to
from polytask.training.loop import step
from polytask.training.recipe import Recipe

STEPS = 5
"""Timed steps of each group of jobs."""

Kind = TypeVar("Kind", bound=Hashable)


def jobs_to_time(backbone: Backbone, task: Task, recipe: Recipe, num_jobs: int) -> list[Job]:
    """Jobs that train together and differ in their seeds, on a few rows of the task, warmed up by one step."""
    some = _with_two_targets(task.train, (STEPS + 1) * recipe.batch_size)
    small = replace(task, train=some, validation=some.take(range(min(len(some), recipe.batch_size))))
    recipes = [replace(recipe, epochs=STEPS + 1, seed=seed) for seed in range(num_jobs)]
    jobs = [Job(backbone, small, own, f"job {own.seed}") for own in recipes]
    with attached_to(backbone, jobs) as attached:
        step(backbone, attached, jobs)
    return jobs


def step_times(backbone: Backbone, groups: Mapping[Kind, Sequence[Job]]) -> dict[Kind, tuple[list[float], list[float]]]:
    """Seconds per token of training and of answering of each group of jobs, both in ascending order."""
    taken = [{kind: _timed(backbone, list(jobs)) for kind, jobs in groups.items()} for _ in range(STEPS)]
    return {kind: (sorted(own[kind][0] for own in taken), sorted(own[kind][1] for own in taken)) for kind in groups}


def _timed(backbone: Backbone, jobs: list[Job]) -> tuple[float, float]:
    """Seconds per token of one step, and of one pass over validation rows."""
    job = jobs[0]
    with attached_to(backbone, jobs) as attached:
        before = sum(job.num_tokens for job in jobs)
        started = time.perf_counter()
        step(backbone, attached, jobs)
        training = (time.perf_counter() - started) / (sum(job.num_tokens for job in jobs) - before)
    with attached_to(backbone, [job]) as attached:
        started = time.perf_counter()
        names = [job.name] * job.validation.num_rows
        scores_of(backbone, attached, {job.name: job.live}, job.validation, names)
        answering = (time.perf_counter() - started) / sum(job.validation.lengths)
    return training, answering


def _with_two_targets(rows: Rows, limit: int) -> Rows:
    """At most so many rows, with at least two different targets if there are any, as a task must have."""
    targets, chosen = rows.targets or (), drawn(len(rows), limit)
    if len({targets[row] for row in chosen}) == 1:
        others = (row for row, target in enumerate(targets) if target != targets[chosen[0]])
        chosen[-1] = next(others, chosen[-1])
    return rows.take(chosen)
