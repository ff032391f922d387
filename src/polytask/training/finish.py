"""Makes the adapter and the result of a job that has ended."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from polytask.adapters.adapter import Adapter
from polytask.backbones.backbone import Backbone
from polytask.data.task import Task
from polytask.evaluation.baselines import majority_score
from polytask.methods import described
from polytask.training.job import Job
from polytask.training.recipe import Recipe
from polytask.training.result import Result, environment, label_counts, versions
from polytask.training.scoring import inputs_of, score_with_interval, scored_on_test


def finished(backbone: Backbone, job: Job, *, with_test: bool = True) -> tuple[Adapter, Result]:
    """The adapter and the result of a trained job. The test rows are scored here, and only here."""
    task, live = job.task, job.live
    test = scored_on_test(backbone, job) if with_test else None
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
        validation=score_with_interval(backbone, job, task.validation, job.validation, job.best_score),
        test=test,
        majority=majority_score(task, task.test or task.validation),
        best_epoch=job.best_epoch,
        truncated=job.train.num_truncated,
        history=job.history,
        label_counts=label_counts(task),
        data_digest=task.digest,
        environment=environment(backbone.device, backbone.dtype),
        columns=task.columns,
    )
    return adapter_of(backbone, live.tensors(), task, result), result


def adapter_of(backbone: Backbone, tensors: Mapping[str, Tensor], task: Task, result: Result) -> Adapter:
    """The adapter with these trained tensors and this result."""
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
    )
    values = result.to_json()
    return Adapter.create(
        tensors,
        task=task.name,
        kind=task.kind,
        labels=task.labels,
        method=Recipe.from_json(result.recipe).method,
        backbone=backbone,
        metric=task.metric,
        score=result.validation.score,
        recipe=result.recipe,
        versions=versions(),
        inputs=inputs_of(task),
        prediction_head=() if task.kind == "span" else backbone.head_layers,
        result={name: values[name] for name in shown},
    )
