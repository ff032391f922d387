"""The training loop. It knows a list of jobs, not a job: training one task and twenty is the same forward pass.

Each step takes every job's next rows, encodes them in one batch, gives each job the loss of its own rows and lets each
take its own step. The loop yields events; its caller shows, logs, saves and stops.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from polytask.adapter import Adapter
from polytask.attach import Attached
from polytask.backbones import Backbone
from polytask.errors import DataError
from polytask.live import LiveAdapter, encode_batch
from polytask.methods import described
from polytask.predict import scores_of
from polytask.routing import Route
from polytask.tasks.batches import Encoded, collate, encode
from polytask.tasks.metrics import score
from polytask.tasks.task import Rows, Task
from polytask.train.job import Job
from polytask.train.recipe import Recipe
from polytask.train.result import Result, Score, environment, label_counts, majority_share, versions


@dataclass(frozen=True)
class Step:
    """A step was taken: ``tokens`` (without padding) and ``seconds`` are sums since the start."""

    job: str
    step: int
    num_steps: int
    epoch: int
    num_epochs: int
    loss: float
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Evaluated:
    """An epoch ended and was scored on the validation rows."""

    job: str
    epoch: int
    num_epochs: int
    metric: str
    score: float
    is_best: bool


Event = Step | Evaluated
Progress = Callable[[Event], None]


def train(
    backbone: Backbone, task: Task, recipe: Recipe | None = None, *, progress: Progress | None = None
) -> tuple[Adapter, Result]:
    """Train one adapter and keep its best epoch.

    The backbone is not changed, not by a bit. Equal seeds, precision and threads give equal tensors.

    Args:
        backbone: a frozen backbone.
        task: rows to train on and to validate with.
        recipe: how; the defaults suit tasks of 1,000 to 60,000 rows.
        progress: called with each ``Step`` and ``Evaluated``.

    Returns:
        The adapter, ready for a store, and what came of it.

    Raises:
        RecipeError: the recipe does not suit the backbone, or training diverged.
    """
    started = time.perf_counter()
    job = Job(backbone, task, recipe or Recipe())
    tokens = 0
    for event in run(backbone, [job]):
        tokens = event.tokens if isinstance(event, Step) else tokens
        if progress is not None:
            progress(event)
    job.restore_best()
    return finished(backbone, job, tokens, time.perf_counter() - started)


def run(backbone: Backbone, jobs: Sequence[Job]) -> Iterator[Event]:
    """Train jobs to their ends, yielding what happens; afterwards each holds its last parameters and its best.

    Jobs that replace backbone parameters cannot share a forward pass: give such a job alone.
    """
    attached = Attached(backbone.model, backbone.row, backbone.noise)
    for job in jobs:
        attached.add(job.name, job.live.deltas)
    started, tokens = time.perf_counter(), dict.fromkeys((job.name for job in jobs), 0)
    losses: dict[str, list[float]] = {job.name: [] for job in jobs}
    try:
        while active := [job for job in jobs if not job.is_done]:
            for job, loss, num_tokens in step(backbone, attached, active):
                tokens[job.name] += num_tokens
                losses[job.name].append(loss)
                seconds = time.perf_counter() - started
                epoch = -(-job.step // job.steps_an_epoch)
                yield Step(
                    job.name, job.step, job.num_steps, epoch, job.num_epochs, loss, tokens[job.name], seconds
                )
                if job.ends_epoch:
                    value = validate(backbone, attached, job)
                    mean_loss = sum(losses[job.name]) / len(losses[job.name])
                    is_best = job.record(value, mean_loss)
                    losses[job.name].clear()
                    yield Evaluated(job.name, job.epoch, job.num_epochs, job.task.metric, value, is_best)
    finally:
        backbone.model.eval()
        for job in jobs:
            attached.remove(job.name)


def step(backbone: Backbone, attached: Attached, jobs: Sequence[Job]) -> list[tuple[Job, float, int]]:
    """One step of every job in one forward and one backward pass; each job with its loss and its tokens."""
    taken = [(job, job.rows()) for job in jobs]
    pad = backbone.tokenizer.pad_token_id or 0
    batch = collate([(job.train, rows) for job, rows in taken], pad, backbone.device)
    firsts = [sum(len(rows) for _, rows in taken[:at]) for at in range(len(taken))]
    draws = tuple(job.draw(first, rows) for first, (job, rows) in zip(firsts, taken, strict=True))
    route = Route.of(None if job.live.copies else job.name for job, rows in taken for _ in rows)
    backbone.model.train()
    with attached.routed(route), backbone.noise.drawn(draws):
        hidden, pooled = encode_batch(backbone, batch, jobs[0].live)
    losses = []
    for first, (job, rows) in zip(firsts, taken, strict=True):
        vectors = hidden if job.live.head.reads_tokens else pooled
        losses.append(job.loss(vectors[first : first + len(rows)], rows))
    sum(losses).backward()  # type: ignore[union-attr]
    values = [float(loss.detach()) for loss in losses]
    for (job, _), value in zip(taken, values, strict=True):
        job.update(value)
    num_tokens = [sum(len(job.train.ids[row]) for row in rows) for job, rows in taken]
    return [(job, value, count) for (job, _), value, count in zip(taken, values, num_tokens, strict=True)]


def validate(backbone: Backbone, attached: Attached, job: Job) -> float:
    """The score of a job's present parameters on its validation rows."""
    return score_on(backbone, attached, job.live, job.name, job.task, job.task.validation, job.validation)


def score_on(
    backbone: Backbone, attached: Attached, live: LiveAdapter, name: str, task: Task, rows: Rows, encoded: Encoded
) -> float:
    """The task's metric over labelled rows, answered by the adapter attached as ``name``."""
    backbone.model.eval()
    scores = scores_of(backbone, attached, {name: live}, encoded, [name] * len(encoded))
    predictions = [live.head.predictions(row[None])[0] for row in scores]
    if rows.targets is None:
        raise DataError(f"the rows of task {task.name!r} have no labels to score against")
    return score(task.metric, task.kind, list(rows.targets), predictions)


def finished(backbone: Backbone, job: Job, tokens: int, seconds: float) -> tuple[Adapter, Result]:
    """A trained job's adapter and result; the test rows are scored here, once."""
    task, live = job.task, job.live
    test = None
    if task.test is not None and task.test.targets is not None:
        encoded = encode(backbone.tokenizer, task.test, job.max_length)
        attached = Attached(backbone.model, backbone.row, backbone.noise)
        attached.add(job.name, live.deltas)
        try:
            value = score_on(backbone, attached, live, job.name, task, task.test, encoded)
        finally:
            attached.remove(job.name)
        test = Score(task.metric, value, len(task.test))
    result = Result(
        task=task.name,
        method=described(job.recipe.method),
        recipe=job.recipe.to_json(),
        parameters={
            "trained": live.num_trained,
            "head": live.num_head,
            "backbone": backbone.num_parameters,
            "percent": 100 * live.num_trained / backbone.num_parameters,
        },
        train={
            "rows": len(task.train),
            "tokens": tokens,
            "epochs": len(job.history),
            "seconds": seconds,
            "tokens_per_second": tokens / seconds,
        },
        validation=Score(task.metric, job.best_score, len(task.validation)),
        test=test,
        majority=majority_share(task.test or task.validation),
        best_epoch=job.best_epoch,
        truncated=job.train.num_truncated,
        history=job.history,
        label_counts=label_counts(task),
        data_digest=task.digest,
        environment=environment(backbone.device, backbone.dtype),
    )
    return adapter_of(backbone, job, result), result


def adapter_of(backbone: Backbone, job: Job, result: Result) -> Adapter:
    """The file's content for a trained job."""
    shown = ("validation", "test", "majority", "train", "truncated", "label_counts", "data_digest", "environment")
    values = result.to_json()
    return Adapter.create(
        job.live.tensors(),
        task=job.task.name,
        kind=job.task.kind,
        labels=job.task.labels,
        method=job.recipe.method,
        backbone=backbone,
        metric=job.task.metric,
        score=job.best_score,
        recipe=result.recipe,
        versions=versions(),
        result={name: values[name] for name in shown},
    )
