"""Estimates the cost of a run before training: rows, tokens, steps, parameters, memory and time.

Counts are exact. Memory is computed from the architecture (``activations.py``). Time is measured on three steps of a
temporary job: a short, a medium and a long one, or smaller ones if these would not fit into memory. Large adapters are
not created: two small ones are measured, and the cost of the large one is extrapolated linearly.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from polytask.adapters.module import num_trained
from polytask.backbones.backbone import Backbone
from polytask.backbones.prefix_cache import PrefixCache
from polytask.data.task import Task
from polytask.inference.scoring import scores_of
from polytask.memory import free_bytes
from polytask.methods import Method, described
from polytask.training.activation_memory import step_bytes
from polytask.training.job import Job, attached_to
from polytask.training.job_checks import COPIES
from polytask.training.loop import step
from polytask.training.recipe import Recipe

TIMED_ROWS = 32
STEP_SHARE = 0.5
"""The share of the free memory that a measured step may take."""
LARGEST_MEASURED = 256
"""The largest size (or rank) that is measured; the cost of larger ones is extrapolated."""


@dataclass(frozen=True)
class Estimate:
    """The cost of training a task with a recipe.

    Attributes:
        rows: training rows.
        texts: training texts after splitting; more than ``rows`` if long texts are split into windows.
        validation_rows: validation rows.
        tokens_an_epoch: tokens of an epoch, without padding.
        tokens: tokens of all epochs, unless ``patience`` ends the run early.
        truncated: texts that are truncated.
        epochs: number of epochs.
        steps: steps of all epochs.
        parameters: as in ``Result``.
        memory_bytes: ``backbone``, ``training`` (trained parameters and optimizer), ``step`` (the peak of the largest
            batch, within 20%), ``total`` of these, and ``free`` on the device.
        seconds: of training and validation, at the speed measured now.
        recipe: the recipe as JSON values, with all defaults filled in.
    """

    rows: int
    texts: int
    validation_rows: int
    tokens_an_epoch: int
    tokens: int
    truncated: int
    epochs: int
    steps: int
    parameters: dict[str, Any]
    memory_bytes: dict[str, int]
    seconds: float
    recipe: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def estimate(backbone: Backbone, task: Task, recipe: Recipe | None = None) -> Estimate:
    """Estimate the cost of training. The backbone is not changed, and nothing is written.

    Raises:
        RecipeError: the recipe does not fit the backbone or the task.
    """
    recipe = recipe or Recipe()
    name = next((name for name in ("size", "rank") if hasattr(recipe.method, name)), "")
    size = getattr(recipe.method, name, 0)
    if size <= LARGEST_MEASURED:
        return _measure(backbone, task, recipe)
    trained = num_trained(backbone, recipe.method.fitted(backbone.row.is_pre_norm))
    smaller = (LARGEST_MEASURED // 2, LARGEST_MEASURED)
    methods = [replace(recipe.method, **{name: of}) for of in smaller]  # type: ignore[type-var]
    small, large = (_measure(backbone, task, replace(recipe, method=method)) for method in methods)
    return _extrapolate(small, large, (size - smaller[0]) / (smaller[1] - smaller[0]), recipe.method, trained)


def _extrapolate(small: Estimate, large: Estimate, distance: float, method: Method, trained: int) -> Estimate:
    """The cost of a larger adapter: ``small`` plus ``distance`` times the difference from ``small`` to ``large``."""

    def extrapolate(of_small: float, of_large: float) -> float:
        return of_small + distance * (of_large - of_small)

    memory = {
        what: round(extrapolate(small.memory_bytes[what], large.memory_bytes[what])) for what in ("training", "step")
    }
    memory |= {what: large.memory_bytes[what] for what in ("backbone", "free")}
    memory["total"] = memory["backbone"] + memory["training"] + memory["step"]
    percent = 100 * trained / large.parameters["backbone"]
    return replace(
        large,
        parameters={**large.parameters, "trained": trained, "percent": percent},
        memory_bytes={what: memory[what] for what in large.memory_bytes},
        seconds=max(extrapolate(small.seconds, large.seconds), large.seconds),
        recipe={**large.recipe, "method": described(method)},
    )


def _measure(backbone: Backbone, task: Task, recipe: Recipe) -> Estimate:
    """The cost of a recipe whose adapter is small enough to create."""
    job = Job(backbone, task, recipe)
    live, tokens = job.live, job.num_passes * sum(job.train.lengths)
    by_size = _steps_by_size(job)
    job.step = by_size[-1][0]
    memory = {
        "backbone": sum(p.nbytes for p in backbone.model.parameters()),
        "training": (COPIES + bool(recipe.ema)) * job.optimizer.flat.nbytes,
        "step": step_bytes(backbone, job.recipe.method, live, [job.train.lengths[row] for row in job.next_rows()]),
    }
    memory["total"] = sum(memory.values())
    memory["free"] = free_bytes(backbone.device)
    timed = _job_that_fits(backbone, job, memory)
    with _temporary_prefix_cache(backbone):
        first, later = _training_seconds(backbone, timed, by_size if timed is job else _steps_by_size(timed))
        validation = _validation_seconds(backbone, job)
    return Estimate(
        rows=len(task.train),
        texts=len(job.train),
        validation_rows=len(task.validation),
        tokens_an_epoch=tokens,
        tokens=tokens * job.num_epochs,
        truncated=job.train.num_truncated,
        epochs=job.num_epochs,
        steps=job.num_steps,
        parameters={
            "trained": live.num_trained,
            "head": live.num_head,
            "backbone": backbone.num_parameters,
            "percent": 100 * live.num_trained / backbone.num_parameters,
        },
        memory_bytes=memory,
        seconds=first + later * (job.num_epochs - 1) + validation * job.num_epochs,
        recipe=job.recipe.to_json(),
    )


def _job_that_fits(backbone: Backbone, job: Job, memory: dict[str, int]) -> Job:
    """The job itself, or one with smaller batches if a step would take more than ``STEP_SHARE`` of the free memory."""
    room = int(STEP_SHARE * memory["free"])
    if memory["step"] <= room:
        return job
    batch_size = max(1, job.recipe.batch_size * room // memory["step"])
    return Job(backbone, job.task, replace(job.recipe, batch_size=batch_size), encodings=job.encodings)


def _steps_by_size(job: Job) -> list[tuple[int, int]]:
    """The steps of the first epoch, each with its tokens, padding included; the smallest first."""
    sizes, lengths = [], job.train.lengths
    for at in range(job.steps_an_epoch):
        job.step = at
        rows = job.next_rows()
        sizes.append((at, len(rows) * max(lengths[row] for row in rows)))
    return sorted(sizes, key=lambda size: size[1])


@contextmanager
def _temporary_prefix_cache(backbone: Backbone) -> Iterator[None]:
    """Use an empty prefix cache within the block, and the previous one afterwards."""
    before, backbone.prefixes = backbone.prefixes, PrefixCache()
    try:
        yield
    finally:
        backbone.prefixes = before


def _training_seconds(backbone: Backbone, job: Job, by_size: list[tuple[int, int]]) -> tuple[float, float]:
    """The seconds of the first epoch's steps, and of a later epoch's, which may have cached prefixes.

    Each is the mean of three steps, one from the middle of each third by size, times the number of steps.
    """
    middles = [len(by_size) * sixth // 6 for sixth in (1, 3, 5)]
    seconds: list[float] = []
    with attached_to(backbone, [job]) as attached:
        for at in (middles[0], *middles, *(middles if job.entry.layer else ())):  # the first of all is a warm-up
            if len(seconds) == 1:
                backbone.prefixes.clear()
            job.step = by_size[at][0]
            started = time.perf_counter()
            step(backbone, attached, [job])
            seconds.append(time.perf_counter() - started)
    first, later = sum(seconds[1:4]), sum(seconds[-3:])
    return first / len(middles) * len(by_size), later / len(middles) * len(by_size)


def _validation_seconds(backbone: Backbone, job: Job) -> float:
    """The seconds of one pass over the validation rows, measured on a sample of all lengths."""
    lengths = job.validation.lengths
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    sample = order[:: -(-len(order) // TIMED_ROWS)]
    asked = job.validation.take(sample)
    started = time.perf_counter()
    with attached_to(backbone, [job]) as attached:
        keep = job.recipe.keep_prefix
        scores_of(backbone, attached, {job.name: job.live}, asked, [job.name] * len(asked), keep_prefix=keep)
    return (time.perf_counter() - started) * sum(lengths) / sum(asked.lengths)
