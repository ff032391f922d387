"""The training loop. It trains a list of jobs: one task and twenty tasks take the same code.

Each step encodes the next rows of all jobs in one batch. Each job gets the loss of its own rows and takes its own
optimizer step. The loop yields events; its caller displays, logs, saves and stops.
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
from polytask.evaluation.none_of_these import DetectNone
from polytask.evaluation.thresholds import Goal
from polytask.inference.prefix import with_cached_prefix
from polytask.memory import keep_freed_memory
from polytask.routing.route import Route
from polytask.training.checkpoint import Checkpoint
from polytask.training.decision import Extras
from polytask.training.events import Evaluated, Event, Failed, Progress, Step
from polytask.training.finish import finish_job
from polytask.training.interrupt import deferred_interrupt
from polytask.training.job import Job, attached_to
from polytask.training.probe import fit_jobs, start_heads
from polytask.training.recipe import Recipe, takes_recipe
from polytask.training.result import Result
from polytask.training.scoring import validate
from polytask.training.start import StartFrom, start_from

MAX_SHARED_TOKENS = {"cpu": 4096}
MAX_SHARED_TOKENS_ELSEWHERE = 1 << 18
"""The most tokens, padding included, for which jobs share a forward pass (by device type)."""


@takes_recipe
def train(
    backbone: Backbone,
    task: Task,
    recipe: Recipe | None = None,
    *,
    progress: Progress | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    resume: bool = False,
    goal: Goal | None = None,
    none: DetectNone | None = None,
    probe: bool = False,
    start: StartFrom = None,
) -> tuple[Adapter, Result]:
    """Train one adapter and keep its best epoch.

    The backbone is not changed. Equal seeds, precision and numbers of threads give equal tensors.

    Args:
        backbone: a frozen backbone.
        task: rows to train on and to validate with.
        recipe: how to train; the defaults suit tasks of 1,000 to 60,000 rows.
        progress: called with each ``Step`` and ``Evaluated``.
        checkpoint: a file for the state of the run, updated during the run, to resume it after an interruption.
        resume: continue from ``checkpoint``, if it exists. The tensors are the same as without the interruption.
        goal: what the adapter's thresholds must reach. None: it answers every text.
        none: how to detect texts with none of the labels. None: every text gets a label.
        probe: also score a probe (``methods.Probe``) on the same rows, for comparison; it takes seconds.
        start: a trained adapter to start from; several are averaged. Its head is taken over if the labels are equal.

    Returns:
        The adapter, ready for a store, and the result: scores, seconds, parameters and versions.

    Raises:
        RecipeError: the recipe does not fit the backbone, or training diverged.
        CheckpointError: the checkpoint belongs to another recipe, other data or another backbone.
        KeyboardInterrupt: on Ctrl-C, after the checkpoint is written.
    """
    task, extras = Extras(goal, none, probe).prepared(task)
    job = Job(backbone, task, recipe or Recipe(), start=start_from(start))
    train_jobs(backbone, [job], progress=progress, checkpoint=checkpoint, resume=resume)
    if job.failure is not None:
        raise job.failure
    return finish_job(backbone, job, extras=extras)


def train_jobs(
    backbone: Backbone,
    jobs: Sequence[Job],
    *,
    progress: Progress | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    resume: bool = False,
    budget_tokens: int | None = None,
) -> None:
    """Train jobs to the end, write checkpoints between steps, and restore each job's best epoch."""
    if isinstance(checkpoint, str | Path):
        checkpoint = Checkpoint(checkpoint)
    if checkpoint is not None and resume:
        checkpoint.load(backbone, jobs)
    with deferred_interrupt() as interrupted:
        for event in run_jobs(backbone, jobs, budget_tokens=budget_tokens):
            if progress is not None:
                progress(event)
            if checkpoint is not None and isinstance(event, Step):
                checkpoint.write_if_due(backbone, jobs)
            if interrupted():
                if checkpoint is not None:
                    checkpoint.write(backbone, jobs)
                raise KeyboardInterrupt
    if checkpoint is not None and all(job.failure is not None for job in jobs):
        checkpoint.remove()  # there is nothing to resume
    elif checkpoint is not None:
        checkpoint.write(backbone, jobs)
    for job in jobs:
        job.restore_best()


def run_jobs(
    backbone: Backbone, jobs: Sequence[Job], *, budget_tokens: int | None = None
) -> Generator[Event, None, None]:
    """Train jobs to the end and yield events. Afterwards each job holds its last and its best parameters.

    Only as many jobs train at a time as fit into a step of ``budget_tokens``; when one is done, the next begins. At
    each event all jobs are between two steps, so a checkpoint may be written.
    """
    with keep_freed_memory(), attached_to(backbone, jobs) as attached, backbone.prefixes.in_use():
        yield from fit_jobs(backbone, attached, list(jobs))
        start_heads(backbone, attached, list(jobs))
        while active := jobs_within_budget(jobs, budget_tokens):
            for together in split_groups(forward_groups(active), backbone.device):
                yield from _step_and_validate(backbone, attached, together)


def jobs_within_budget(jobs: Sequence[Job], budget_tokens: int | None) -> list[Job]:
    """The first unfinished jobs that fit into the budget together; at least one, if any is unfinished."""
    active: list[Job] = []
    for job in jobs:
        if job.is_done:
            continue
        tokens = sum(other.batch_tokens for other in active) + job.batch_tokens
        if active and budget_tokens is not None and tokens > budget_tokens:
            break
        active.append(job)
    return active


def forward_groups(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs grouped by forward pass.

    Jobs with deltas share one if they enter the backbone at the same place. A job that replaces backbone parameters
    has its own.
    """
    together: dict[EntryPoint, list[Job]] = {}
    for job in jobs:
        if not job.live.copies:
            together.setdefault(job.entry, []).append(job)
    return [*together.values(), *([job] for job in jobs if job.live.copies)]


def split_groups(groups: Sequence[Sequence[Job]], device: torch.device) -> Iterator[list[Job]]:
    """Split groups whose next rows have so many tokens that sharing a pass gains nothing (benchmarks/fused.py)."""
    most = MAX_SHARED_TOKENS.get(device.type, MAX_SHARED_TOKENS_ELSEWHERE)
    for group in groups:
        part: list[Job] = []
        for job in group:
            lengths = [other.next_shape for other in (*part, job)]
            if part and sum(rows for rows, _ in lengths) * max(tokens for _, tokens in lengths) > most:
                yield part
                part = []
            part.append(job)
        yield part


def _step_and_validate(backbone: Backbone, attached: Attached, jobs: Sequence[Job]) -> Iterator[Event]:
    """One step of every job; jobs whose epoch it ends are scored."""
    started = time.perf_counter()
    padding = step(backbone, attached, jobs)
    scores = {job.name: validate(backbone, attached, job) for job in jobs if job.ends_epoch and job.failure is None}
    seconds = (time.perf_counter() - started) / len(jobs)
    for job in jobs:  # before the first event, so that a checkpoint holds one state of all jobs
        job.seconds += seconds
        job.padding_sum += padding
        job.num_grouped += job.is_grouped
        if job.name in scores:
            job.record(scores[job.name])
    for job in jobs:
        if job.failure is not None:
            yield Failed(job.name, job.failure)
            continue
        epoch = -(-job.step // job.steps_an_epoch)
        at = (job.step, job.num_steps, epoch, job.num_epochs)
        yield Step(job.name, *at, job.last_loss, job.num_tokens, job.seconds, padding, job.lr)
        if job.name in scores:
            is_best = job.best_epoch == job.epoch and job.recipe.keep_epoch == "best"
            yield Evaluated(job.name, job.epoch, job.num_epochs, job.metric, scores[job.name], is_best)


def step(backbone: Backbone, attached: Attached, jobs: Sequence[Job]) -> float:
    """One step of every job, in one forward and one backward pass; the share of padding in the batch."""
    with backbone.one_pass(training=True):
        losses, num_padded = forward(backbone, attached, jobs)
        sum(losses).backward()  # type: ignore[union-attr]
        rows = [job.next_rows() for job in jobs]
        for job, own, loss in zip(jobs, rows, losses, strict=True):
            job.update(loss, own)
    num_tokens = sum(len(job.train.ids[row]) for job, own in zip(jobs, rows, strict=True) for row in own)
    return 1 - num_tokens / num_padded


def forward(backbone: Backbone, attached: Attached, jobs: Sequence[Job]) -> tuple[list[Tensor], int]:
    """One forward pass over the next rows of all jobs.

    Returns:
        Each job's loss, and the number of tokens of the batch, padding included.
    """
    taken = [(job, job.next_rows()) for job in jobs]
    parts = [(job.train, rows) for job, rows in taken]
    batch = collate(parts, backbone.tokenizer.pad_token_id or 0, backbone.device)
    firsts = list(itertools.accumulate((len(rows) for _, rows in taken), initial=0))
    keys = tuple(job.dropout_key(first, rows) for first, (job, rows) in zip(firsts, taken))
    route = Route.of(name for job, rows in taken for name in job.routes(len(rows)))
    undropped_site = backbone.encoder.undropped_site(jobs[0].entry)
    with backbone.one_pass(training=True):
        batch = with_cached_prefix(backbone, batch, parts, jobs[0].entry, attached)
        with attached.routed(route), backbone.dropout_source.keyed(keys, undropped_site):
            hidden, pooled = encode_batch(backbone, batch, jobs[0].live)
    for job in jobs:
        job.is_grouped = job.name in route.grouped
    losses = []
    for key, (job, rows) in zip(keys, taken, strict=True):
        own = (key.rows, slice(max(key.lengths)))
        vectors = job.head.input_of(hidden[own], pooled[key.rows], batch.mask[own])
        losses.append(job.loss(vectors, rows))
    return losses, batch.ids.numel()
