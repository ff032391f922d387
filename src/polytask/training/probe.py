"""Jobs whose method is ``Probe``: one pass over the training rows and a fit, in place of steps."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from polytask.adapters.attach import Attached
from polytask.backbones.backbone import Backbone
from polytask.evaluation.heads import RegressionHead
from polytask.evaluation.linear_probe import fit_probe
from polytask.inference.vectors import vectors_of
from polytask.methods import Probe
from polytask.training.events import Evaluated
from polytask.training.job import Job
from polytask.training.scoring import validate


def is_probe(job: Job) -> bool:
    """Whether a job is fitted here."""
    return isinstance(job.recipe.method, Probe)


def fit_jobs(backbone: Backbone, attached: Attached, jobs: list[Job]) -> Iterator[Evaluated]:
    """Fit and score the jobs among these that are probes; they are done then."""
    for job in jobs:
        if not is_probe(job) or job.is_done:
            continue
        started = time.perf_counter()
        fit_job(backbone, job)
        score = validate(backbone, attached, job)
        job.seconds += time.perf_counter() - started
        if job.record(score):
            yield Evaluated(job.name, job.epoch, job.num_epochs, job.task.metric, score, True)


def fit_job(backbone: Backbone, job: Job) -> None:
    """Fit the head of a job on the pooled vectors of its training rows."""
    head, texts = job.live.head, job.train
    vectors = vectors_of(backbone, texts)
    targets = list(job.targets)
    if isinstance(head, RegressionHead):  # the head works on standardised targets
        targets = [(float(target) - head.centre) / head.spread for target in targets]  # type: ignore[arg-type]
    fit = fit_probe(job.task.kind, vectors.numpy(), targets, len(head.bias), texts.owners, job.recipe.class_weights)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(fit.weight))
        head.bias.copy_(torch.from_numpy(fit.bias))
        job.loss_sum = job.steps_an_epoch * float(_loss(job, vectors))
    job.step, job.num_tokens = job.num_steps, sum(texts.lengths)


def _loss(job: Job, vectors: Tensor) -> Tensor:
    head = job.live.head
    outputs = head(vectors.to(head.weight.device))
    return head.losses(outputs, head.targets(job.targets, outputs.device)).mean()
