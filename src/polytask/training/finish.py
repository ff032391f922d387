"""Makes the adapter and the result of a job that has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from polytask.adapters.adapter import Adapter
from polytask.adapters.module import LoadedAdapter
from polytask.backbones.backbone import Backbone
from polytask.data.task import Task
from polytask.evaluation.baselines import majority_score
from polytask.methods import Probe, described
from polytask.training.calibration import fit_on_validation, measure_calibration
from polytask.training.decision import NO_EXTRAS, Extras, decide
from polytask.training.job import Job
from polytask.training.probe import score_probe
from polytask.training.recipe import Recipe
from polytask.training.result import Result, environment, label_counts, versions
from polytask.training.scoring import inputs_of, score_with_interval, scores_on, test_scores


def finish_job(
    backbone: Backbone,
    job: Job,
    *,
    with_test: bool = True,
    extras: Extras = NO_EXTRAS,
    together: Sequence[str] | None = None,
) -> tuple[Adapter, Result]:
    """Make the adapter and result of a trained job. This scores the test rows, once.

    Args:
        backbone: the backbone of the job.
        job: a trained job.
        with_test: whether to score the test rows.
        extras: what to add to the adapter: thresholds, a detector of "none of these", the score of a probe.
        together: the tasks of a multi-task training.
    """
    task, live = job.task, job.live
    on_validation = scores_on(backbone, job, job.validation)
    on_test = test_scores(backbone, job) if with_test else None
    found = fit_on_validation(task, on_validation)
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
            "tokens": job.num_tokens,
            "epochs": len(job.history),
            "seconds": job.seconds,
            "tokens_per_second": job.num_tokens / job.seconds,
            "padding": job.padding,
            "routing": job.routing,
        },
        validation=score_with_interval(job, task.validation, on_validation, job.best_score),
        test=None if task.test is None or on_test is None else score_with_interval(job, task.test, on_test),
        majority=majority_score(task, task.test or task.validation),
        best_epoch=job.best_epoch,
        truncated=job.train.num_truncated,
        history=job.history,
        label_counts=label_counts(task),
        data_digest=task.digest,
        environment=environment(backbone.device, backbone.dtype),
        columns=task.columns,
        calibration=measure_calibration(task, found, on_validation, on_test),
        probe=score_probe(backbone, job) if extras.probe else None,
        start=job.origin,
        together=None if together is None else list(together),
    )
    own = decide(backbone, job, result, found.calibration, on_validation, on_test, extras)
    return adapter_of(backbone, {**live.tensors(), **own.tensors}, task, own.result, own.fields), own.result


def adapter_of(
    backbone: Backbone,
    tensors: Mapping[str, Tensor],
    task: Task,
    result: Result,
    decides: Mapping[str, Any] | None = None,
) -> Adapter:
    """The adapter of trained tensors, with the result that its card shows."""
    shown = (
        "validation",
        "test",
        "majority",
        "train",
        "truncated",
        "label_counts",
        "data_digest",
        "environment",
        "columns",
        "calibration",
        "thresholds",
        "none",
        "probe",
        "together",
    )
    values, method = result.to_json(), Recipe.from_json(result.recipe).method
    return Adapter.create(
        tensors,
        task=task.name,
        kind=task.kind,
        labels=task.labels,
        method=method,
        backbone=backbone,
        metric=task.metric,
        score=result.validation.score,
        recipe=result.recipe,
        versions=versions(),
        inputs=inputs_of(task),
        prediction_head=() if task.kind == "span" or isinstance(method, Probe) else backbone.head_layers,
        result={name: values[name] for name in shown if name in values},
        start=result.start,
        decides=decides,
    )


def add_extras(
    backbone: Backbone, task: Task, adapter: Adapter, result: Result, extras: Extras
) -> tuple[Adapter, Result]:
    """Add extras to a trained adapter; return it with its result."""
    job = Job(backbone, task, Recipe.from_json(result.recipe))
    job.live = LoadedAdapter.from_adapter(backbone, adapter)
    on_test = None if result.test is None else test_scores(backbone, job)
    calibration = job.live.decision.calibration
    found = decide(backbone, job, result, calibration, scores_on(backbone, job, job.validation), on_test, extras)
    own = replace(found.result, probe=score_probe(backbone, job)) if extras.probe else found.result
    return adapter_of(backbone, {**adapter.tensors, **found.tensors}, task, own, found.fields), own
