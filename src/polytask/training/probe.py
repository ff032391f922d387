"""Trains jobs whose method is ``Probe``: one pass over the training rows and a fit instead of gradient steps.

The head of another method can start at a probe's weights (linear probing, then fine-tuning: LP-FT, arXiv:2202.10054).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from polytask.adapters.attach import Attached
from polytask.adapters.provenance import FRESH
from polytask.backbones.backbone import Backbone
from polytask.errors import PolytaskWarning
from polytask.evaluation.heads import RegressionHead
from polytask.evaluation.linear_probe import fit_probe
from polytask.inference.vectors import vectors_of
from polytask.methods import Probe
from polytask.serialization import to_json
from polytask.training.events import Evaluated
from polytask.training.job import Job
from polytask.training.recipe import Recipe
from polytask.training.scoring import score_with_interval, scores_on, validate

MAX_ROWS = 5000
"""With more training rows, no probe is scored for comparison with other methods."""


def is_probe(job: Job) -> bool:
    """Whether the job's method is ``Probe``."""
    return isinstance(job.recipe.method, Probe)


def fit_jobs(backbone: Backbone, attached: Attached, jobs: list[Job]) -> Iterator[Evaluated]:
    """Fit and score those of the jobs that are probes, which ends their training."""
    for job in jobs:
        if not is_probe(job) or job.is_done:
            continue
        started = time.perf_counter()
        fit_job(backbone, job)
        score = validate(backbone, attached, job)
        job.seconds += time.perf_counter() - started
        if job.record(score):
            yield Evaluated(job.name, job.epoch, job.num_epochs, job.task.metric, score, True)


def start_heads(backbone: Backbone, attached: Attached, jobs: list[Job]) -> None:
    """Set the heads of jobs that have not begun and start at a probe's weights.

    The probe is fitted on the vectors of the untrained adapter: those of the bare backbone, or of the adapter that the
    job starts from. A head that was taken over from that adapter stays.
    """
    for job in jobs:
        if job.recipe.head_start != "probe" or job.step > 0 or job.is_done:
            continue
        started = time.perf_counter()
        for part in job.parts:
            if part.origin is None or part.origin["head"] == FRESH:
                fit_head(part, vectors_of(backbone, part.train, (attached, job.name, part.live)))
        job.best.copy_(job.optimizer.flat)
        job.seconds += time.perf_counter() - started


def fit_job(backbone: Backbone, job: Job) -> None:
    """Fit the head of a job on the pooled vectors of its training rows, which ends its training."""
    vectors = vectors_of(backbone, job.train)
    fit_head(job, vectors)
    with torch.no_grad():
        job.loss_sum = job.steps_an_epoch * float(_loss(job, vectors))
    job.step, job.num_tokens = job.num_steps, sum(job.train.lengths)


@torch.no_grad()
def fit_head(job: Job, vectors: Tensor) -> None:
    """Fit the last layer of a job's head on the vectors of its training texts, ``[N, D]``."""
    head, targets = job.live.head, list(job.targets)
    if isinstance(head, RegressionHead):  # the head works on standardised targets
        targets = [(float(target) - head.centre) / head.spread for target in targets]
    features = head.before_last(vectors.to(head.weight.device)).cpu().numpy()
    owners, weighting = job.train.owners, job.recipe.class_weights
    fit = fit_probe(job.task.kind, features, targets, len(head.bias), owners, weighting)
    head.weight.copy_(torch.from_numpy(fit.weight))
    head.bias.copy_(torch.from_numpy(fit.bias))


def _loss(job: Job, vectors: Tensor) -> Tensor:
    head = job.live.head
    outputs = head(vectors.to(head.weight.device))
    return head.losses(outputs, head.targets(job.targets, outputs.device)).mean()


def score_probe(backbone: Backbone, job: Job) -> dict[str, Any] | None:
    """The score of a probe on the rows that a trained job was scored on.

    Returns:
        A ``Score`` as JSON values with the ``seconds`` it took; a ``note`` in place of it if that would take long; None
        of a task that a probe cannot do, and of a probe.
    """
    task = job.task
    if task.kind == "span" or is_probe(job):
        return None
    if len(task.train) > MAX_ROWS:
        return {"note": f"no probe was fitted: {len(task.train):,} training rows are more than {MAX_ROWS:,}"}
    started = time.perf_counter()
    recipe = Recipe(Probe(), max_length=job.recipe.max_length, long=job.recipe.long, keep_prefix=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PolytaskWarning)  # they were given of the job itself
        probe = Job(backbone, task, recipe, job.name, job.encodings)
    fit_job(backbone, probe)
    rows = task.test if task.test is not None and task.test.targets is not None else task.validation
    scores = scores_on(backbone, probe, job.encodings.of(rows, *probe.cut))
    found = to_json(score_with_interval(probe, rows, scores))
    return {**found, "seconds": time.perf_counter() - started}
