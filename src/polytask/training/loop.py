"""The training loop. It knows a list of jobs, not a job: training one task and twenty is the same forward pass.

Each step takes every job's next rows, encodes them in one batch, gives each job the loss of its own rows and lets each
take its own step. The loop yields events; its caller shows, logs, saves and stops.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from polytask.adapters.adapter import Adapter
from polytask.adapters.attach import Attached
from polytask.adapters.module import encode_batch
from polytask.backbones.backbone import Backbone
from polytask.backbones.entry_point import EntryPoint
from polytask.data.batches import collate
from polytask.data.task import Task
from polytask.evaluation.thresholds import Goal
from polytask.inference.prefix import with_cached_prefix
from polytask.memory import keep_freed_memory as kept_memory
from polytask.routing.route import Route
from polytask.training.checkpoint import Checkpoint
from polytask.training.events import Evaluated, Event, Failed, Progress, Step
from polytask.training.finish import finished
from polytask.training.interrupt import deferred_interrupt
from polytask.training.job import Job, attached_to
from polytask.training.recipe import Recipe
from polytask.training.result import Result
from polytask.training.scoring import validate

MOST_TOKENS = {"cpu": 4096}
MOST_TOKENS_ELSEWHERE = 1 << 18
"""Tokens with their padding beyond which jobs on a device do not share a pass."""


def train(
    backbone: Backbone,
    task: Task,
    recipe: Recipe | None = None,
    *,
    progress: Progress | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    resume: bool = False,
    goal: Goal | None = None,
) -> tuple[Adapter, Result]:
    """Train one adapter and keep its best epoch.

    The backbone is not changed, not by a bit. Equal seeds, precision and threads give equal tensors.

    Args:
        backbone: a frozen backbone.
        task: rows to train on and to validate with.
        recipe: how; the defaults suit tasks of 1,000 to 60,000 rows.
        progress: called with each ``Step`` and ``Evaluated``.
        checkpoint: a file that keeps the state of the run while it lasts, to go on from when it is interrupted.
        resume: go on from ``checkpoint`` if it is there; to the same tensors as without the interruption.
        goal: what the adapter's thresholds are to hold; without one it answers every text.

    Returns:
        The adapter, ready for a store, and what came of it.

    Raises:
        RecipeError: the recipe does not suit the backbone, or training diverged.
        CheckpointError: the checkpoint belongs to another recipe, other data or another backbone.
        KeyboardInterrupt: on Ctrl-C, after the checkpoint is written.
    """
    if goal is not None:
        goal.check(task.kind)
    job = Job(backbone, task, recipe or Recipe())
    drive(backbone, [job], progress=progress, checkpoint=checkpoint, resume=resume)
    if job.failure is not None:
        raise job.failure
    return finished(backbone, job, goal=goal)


def drive(
    backbone: Backbone,
    jobs: Sequence[Job],
    *,
    progress: Progress | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    resume: bool = False,
    budget_tokens: int | None = None,
) -> None:
    """Train jobs to their ends with a checkpoint between steps, and go back to each one's best epoch."""
    kept = Checkpoint(checkpoint) if isinstance(checkpoint, str | Path) else checkpoint
    if kept is not None and resume:
        kept.load(backbone, jobs)
    with deferred_interrupt() as interrupted:
        for event in run_jobs(backbone, jobs, budget_tokens=budget_tokens):
            if progress is not None:
                progress(event)
            if kept is not None and isinstance(event, Step):
                kept.write_if_due(backbone, jobs)
            if interrupted():
                if kept is not None:
                    kept.write(backbone, jobs)
                raise KeyboardInterrupt
    if kept is not None and all(job.failure is not None for job in jobs):
        kept.remove()  # nothing to go on with
    elif kept is not None:
        kept.write(backbone, jobs)
    for job in jobs:
        job.restore_best()


def run_jobs(
    backbone: Backbone, jobs: Sequence[Job], *, budget_tokens: int | None = None
) -> Generator[Event, None, None]:
    """Train jobs to their ends, yielding what happens; afterwards each holds its last parameters and its best.

    At any time so many jobs take part as fit ``budget_tokens`` of a step; one that is done leaves and the next
    enters. Between two events every job is between two of its steps.
    """
    with kept_memory(), attached_to(backbone, jobs) as attached, backbone.prefixes.in_use():
        while active := admitted(jobs, budget_tokens):
            for together in packed(sharing(active), backbone.device):
                yield from _round(backbone, attached, together)


def admitted(jobs: Sequence[Job], budget_tokens: int | None) -> list[Job]:
    """The first jobs that are not done and fit the budget together; at least one."""
    active: list[Job] = []
    for job in jobs:
        if job.is_done:
            continue
        tokens = sum(other.batch_tokens for other in active) + job.batch_tokens
        if active and budget_tokens is not None and tokens > budget_tokens:
            break
        active.append(job)
    return active


def sharing(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that share a forward pass: those with deltas that enter the backbone at one place.

    Each that replaces backbone parameters has its own.
    """
    together: dict[EntryPoint, list[Job]] = {}
    for job in jobs:
        if not job.live.copies:
            together.setdefault(job.entry, []).append(job)
    return [*together.values(), *([job] for job in jobs if job.live.copies)]


def packed(groups: Sequence[Sequence[Job]], device: torch.device) -> Iterator[list[Job]]:
    """Groups whose next rows are so many tokens that nothing is gained by one pass (benchmarks/fused.py), cut up."""
    most = MOST_TOKENS.get(device.type, MOST_TOKENS_ELSEWHERE)
    for group in groups:
        pack: list[Job] = []
        for job in group:
            lengths = [other.next_shape for other in (*pack, job)]
            if pack and sum(rows for rows, _ in lengths) * max(tokens for _, tokens in lengths) > most:
                yield pack
                pack = []
            pack.append(job)
        yield pack


def _round(backbone: Backbone, attached: Attached, jobs: Sequence[Job]) -> Iterator[Event]:
    """One step of every job, and the scores of those whose epoch it ended."""
    started = time.perf_counter()
    losses, padding = step(backbone, attached, jobs)
    scores = {job.name: validate(backbone, attached, job) for job in jobs if job.ends_epoch and job.failure is None}
    seconds = (time.perf_counter() - started) / len(jobs)
    for job in jobs:  # all are updated before the first event: a checkpoint between two events is whole
        job.seconds += seconds
        job.padding_sum += padding
        job.num_grouped += job.is_grouped
        if job.name in scores:
            job.record(scores[job.name])
    for job, loss in zip(jobs, losses, strict=True):
        if job.failure is not None:
            yield Failed(job.name, job.failure)
            continue
        epoch = -(-job.step // job.steps_an_epoch)
        at = (job.step, job.num_steps, epoch, job.num_epochs)
        yield Step(job.name, *at, loss, job.num_tokens, job.seconds, padding, job.lr)
        if job.name in scores:
            is_best = job.best_epoch == job.epoch
            yield Evaluated(job.name, job.epoch, job.num_epochs, job.task.metric, scores[job.name], is_best)


def step(backbone: Backbone, attached: Attached, jobs: Sequence[Job]) -> tuple[list[float], float]:
    """One step of every job in one forward and one backward pass; the jobs' losses and the share of padding."""
    with backbone.one_pass(training=True):
        losses, num_padded = forward(backbone, attached, jobs)
        sum(losses).backward()  # type: ignore[union-attr]
        rows = [job.rows() for job in jobs]
        values = [float(loss.detach()) for loss in losses]
        for job, own, value in zip(jobs, rows, values, strict=True):
            job.update(value, own)
    num_tokens = sum(len(job.train.ids[row]) for job, own in zip(jobs, rows, strict=True) for row in own)
    return values, 1 - num_tokens / num_padded


def forward(backbone: Backbone, attached: Attached, jobs: Sequence[Job]) -> tuple[list[Tensor], int]:
    """The loss of every job's next rows, from one forward pass, and the tokens of the batch with its padding."""
    taken = [(job, job.rows()) for job in jobs]
    parts = [(job.train, rows) for job, rows in taken]
    batch = collate(parts, backbone.tokenizer.pad_token_id or 0, backbone.device)
    firsts = list(itertools.accumulate((len(rows) for _, rows in taken), initial=0))
    draws = tuple(job.draw(first, rows) for first, (job, rows) in zip(firsts, taken))
    route = Route.of(None if job.live.copies else job.name for job, rows in taken for _ in rows)
    undropped_site = backbone.encoder.undropped_site(jobs[0].entry)
    with backbone.one_pass(training=True):
        batch = with_cached_prefix(backbone, batch, parts, jobs[0].entry, attached)
        with attached.routed(route), backbone.dropout_source.keyed(draws, undropped_site):
            hidden, pooled = encode_batch(backbone, batch, jobs[0].live)
    for job in jobs:
        job.is_grouped = job.name in route.grouped
    losses = []
    for draw, (job, rows) in zip(draws, taken, strict=True):
        reads_tokens = job.live.head.reads_tokens
        losses.append(job.loss(hidden[draw.rows, : max(draw.lengths)] if reads_tokens else pooled[draw.rows], rows))
    return losses, batch.ids.numel()
