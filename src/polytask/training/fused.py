"""Many adapters trained at once on one backbone, each equal to training alone.

Every job keeps its own data, method, size, learning rate, epochs, seed, schedule, clipping, metric and early stop. A
step is one forward and one backward pass over the next rows of all jobs that take part; see ``train.loop``.
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
from polytask.errors import RecipeError
from polytask.memory import free_bytes
from polytask.training.checkpoint import Checkpoint
from polytask.training.events import Progress
from polytask.training.finish import finished
from polytask.training.job import Job, attached_to
from polytask.training.loop import drive, forward, sharing
from polytask.training.recipe import Recipe
from polytask.training.result import Result

Outcome = tuple[Adapter, Result] | RecipeError
USED_SHARE = 0.5


def train_many(
    backbone: Backbone,
    jobs: Mapping[str, tuple[Task, Recipe]] | Sequence[tuple[Task, Recipe]],
    *,
    progress: Progress | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    resume: bool = False,
    budget_tokens: int | None = None,
) -> dict[str, Outcome]:
    """Train many adapters at once.

    Args:
        backbone: a frozen backbone; it is not changed, not by a bit.
        jobs: a task and a recipe each, by name; without names they have those of their tasks.
        progress: called with each job's ``Step``, ``Evaluated`` and ``Failed``.
        checkpoint: a file that keeps the state of all jobs while the run lasts.
        resume: go on from ``checkpoint`` if it is there.
        budget_tokens: tokens of one step, all jobs together; jobs that do not fit wait for one to finish. Unless given
            it is measured: what half of the free memory holds.

    Returns:
        For each name, in the order given, the adapter and its result, or the error of a job that diverged.

    Raises:
        RecipeError: two jobs have one name.
        CheckpointError: the checkpoint belongs to other jobs.
        KeyboardInterrupt: on Ctrl-C, after the checkpoint is written.
    """
    named = dict(jobs) if isinstance(jobs, Mapping) else _by_task(jobs)
    encodings = Encodings(backbone.tokenizer)
    made = [Job(backbone, task, recipe, name, encodings) for name, (task, recipe) in named.items()]
    if budget_tokens is None:
        budget_tokens = measured_budget(backbone, made)
    options = {"progress": progress, "checkpoint": checkpoint, "resume": resume, "budget_tokens": budget_tokens}
    drive(backbone, made, **options)  # type: ignore[arg-type]
    return {job.name: finished(backbone, job) if job.failure is None else job.failure for job in made}


def measured_budget(backbone: Backbone, jobs: Sequence[Job]) -> int:
    """The tokens of a step that half of the free memory holds, from one forward pass of the jobs' first steps."""
    bytes_a_token = max(saved_bytes(backbone, together[:1]) for together in sharing(jobs))
    return max(1, int(USED_SHARE * free_bytes(backbone.device) / bytes_a_token))


def saved_bytes(backbone: Backbone, jobs: Sequence[Job]) -> float:
    """Bytes that a step keeps for its backward pass, for each token with its padding."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with attached_to(backbone, jobs) as attached, hooks:
        _, num_tokens = forward(backbone, attached, jobs)
    weights = {p.untyped_storage().data_ptr() for p in backbone.model.parameters()}
    return sum(size for pointer, size in kept.items() if pointer not in weights) / num_tokens


def _by_task(jobs: Sequence[tuple[Task, Recipe]]) -> dict[str, tuple[Task, Recipe]]:
    named = {task.name: (task, recipe) for task, recipe in jobs}
    if len(named) != len(jobs):
        raise RecipeError("two jobs train tasks of one name: give jobs as a mapping from a name of their own each")
    return named
