"""Trains many adapters at once on one backbone; each equals training it alone.

Every job has its own data, method, size, learning rate, epochs, seed, schedule, clipping, metric and early stopping. A
step is one forward and one backward pass over the next rows of all active jobs; see ``training.loop``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from polytask.adapters.adapter import Adapter
from polytask.backbones.backbone import Backbone
from polytask.data.encoding import Encodings
from polytask.data.task import Task
from polytask.errors import BackboneError, RecipeError
from polytask.evaluation.none_of_these import DetectNone
from polytask.evaluation.thresholds import Goal
from polytask.memory import free_bytes
from polytask.training.checkpoint import Checkpoint
from polytask.training.decision import Extras
from polytask.training.events import Progress
from polytask.training.finish import finish_job
from polytask.training.job import Job, attached_to
from polytask.training.job_checks import check_type
from polytask.training.loop import forward, forward_groups, train_jobs
from polytask.training.recipe import Recipe, takes_recipe
from polytask.training.result import Result
from polytask.training.start import StartFrom, starts_of

Outcome = tuple[Adapter, Result] | RecipeError
MEMORY_SHARE = 0.5
"""The share of the free memory that a step may take."""


@takes_recipe
def train_many(
    backbone: Backbone,
    jobs: Mapping[str, tuple[Task, Recipe]] | Sequence[tuple[Task, Recipe]],
    *,
    progress: Progress | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    resume: bool = False,
    budget_tokens: int | None = None,
    goal: Goal | None = None,
    none: DetectNone | None = None,
    probe: bool = False,
    start: StartFrom | Mapping[str, StartFrom] = None,
) -> dict[str, Outcome]:
    """Train many adapters at once.

    Args:
        backbone: a frozen backbone. It is not changed.
        jobs: tasks and recipes, by name. In a list, each job is named as its task.
        progress: called with each job's ``Step``, ``Evaluated`` and ``Failed``.
        checkpoint: a file for the state of all jobs, updated during the run.
        resume: continue from ``checkpoint``, if it exists.
        budget_tokens: the most tokens of a step, all jobs together. Jobs that do not fit wait until one finishes.
            None: as many as fit into half of the free memory, which is measured.
        goal, none, probe: as in ``train``, for every job.
        start: as in ``train``, for every job, or by the names of jobs.

    Returns:
        By name, in the order given, the adapter and its result, or the error of a job that diverged.

    Raises:
        RecipeError: two jobs have the same name, or a job is not a pair of a task and a recipe.
        CheckpointError: the checkpoint belongs to other jobs.
        KeyboardInterrupt: on Ctrl-C, after the checkpoint is written.
    """
    for job in jobs.values() if isinstance(jobs, Mapping) else jobs:
        _check_pair(job)
    named = dict(jobs) if isinstance(jobs, Mapping) else _named_as_tasks(jobs)
    check_type(backbone, Backbone, BackboneError)
    encodings = Encodings(backbone.tokenizer)
    starts, made, extras = starts_of(start, list(named)), [], {}
    for name, (task, recipe) in named.items():
        own, extras[name] = Extras(goal, none, probe).prepared(task)
        made.append(Job(backbone, own, recipe, name, encodings, starts[name]))
    if budget_tokens is None:
        budget_tokens = measured_budget(backbone, made)
    options = {"progress": progress, "checkpoint": checkpoint, "resume": resume, "budget_tokens": budget_tokens}
    train_jobs(backbone, made, **options)  # type: ignore[arg-type]
    return {job.name: job.failure or finish_job(backbone, job, extras=extras[job.name]) for job in made}


def measured_budget(backbone: Backbone, jobs: Sequence[Job]) -> int:
    """The tokens of a step that fit into half of the free memory, measured by one forward pass per group of jobs."""
    bytes_a_token = max(saved_bytes(backbone, together[:1]) for together in forward_groups(jobs))
    return max(1, int(MEMORY_SHARE * free_bytes(backbone.device) / bytes_a_token))


def saved_bytes(backbone: Backbone, jobs: Sequence[Job]) -> float:
    """The bytes that a step saves for its backward pass, per token, padding included."""
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with attached_to(backbone, jobs) as attached, hooks:
        _, num_tokens = forward(backbone, attached, jobs)
    weights = {p.untyped_storage().data_ptr() for p in backbone.model.parameters()}
    return sum(size for pointer, size in saved.items() if pointer not in weights) / num_tokens


def _named_as_tasks(jobs: Sequence[tuple[Task, Recipe]]) -> dict[str, tuple[Task, Recipe]]:
    named = {task.name: (task, recipe) for task, recipe in jobs}
    if len(named) != len(jobs):
        raise RecipeError("two jobs train tasks of one name: give jobs as a mapping, with a different name for each")
    return named


def _check_pair(job: object) -> None:
    if not isinstance(job, tuple | list) or len(job) != 2:
        raise RecipeError(f"{type(job).__name__} is not a job. A job is a pair: (task, pt.Recipe(epochs=3))")
