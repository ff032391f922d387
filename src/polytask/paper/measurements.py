"""From a job that is over to an entry of the ledger: scores, every metric, further rows, ablation, the adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from polytask.adapters.adapter import Adapter
from polytask.adapters.attach import Attached
from polytask.backbones.backbone import Backbone
from polytask.data.encoding import Encoded, encode
from polytask.data.task import Rows, Target, Task
from polytask.evaluation.baselines import majority_score, tfidf_answers
from polytask.evaluation.metrics import all_scores, score
from polytask.evaluation.significance import bootstrap_interval
from polytask.methods.bottleneck import Bottleneck
from polytask.paper.grids import ABLATION
from polytask.paper.ledger import Entry, Trial
from polytask.paper.suites import Loaded
from polytask.training.finish import adapter_of
from polytask.training.job import Job, attached_to
from polytask.training.result import Result, Score, environment, label_counts
from polytask.training.scoring import labels_of, predictions_of


def identity(backbone: Backbone) -> str:
    """All of a backbone that determines scores: weights, tokenizer, pooling. Part of a trial's key."""
    return f"{backbone.fingerprint} {backbone.tokenizer_fingerprint} {backbone.pooling}"


def of_job(backbone: Backbone, job: Job, trial: Trial, key: str, loaded: Loaded) -> tuple[Entry, Adapter | None]:
    """What came of a job, and its adapter; none where it diverged. The test rows are answered here, once."""
    entry = Entry(
        trial,
        key,
        backbone=described(backbone),
        data=data_of(loaded),
        parameters={
            "trained": job.live.num_trained,
            "head": job.live.num_head,
            "backbone": backbone.num_parameters,
            "percent": 100 * job.live.num_trained / backbone.num_parameters,
        },
        epochs=len(job.history),
        seconds=job.seconds,
        environment=environment(backbone.device, backbone.dtype),
    )
    job.restore_best()
    if job.failure is None and not torch.isfinite(job.best).all():
        return replace(entry, failure="the parameters of the best epoch are not numbers; lower the learning rate"), None
    if job.failure is not None:
        return replace(entry, failure=str(job.failure)), None
    task = job.task
    with attached_to(backbone, [job]) as attached:

        def answered(rows: Rows, encoded: Encoded | None = None) -> list[Target]:
            return predictions_of(backbone, attached, job.live, job.name, encoded or encoded_as(backbone, job, rows))

        validation = scored(task, task.validation, answered(task.validation, job.validation))
        answers = None if task.test is None else answered(task.test)
        also = {name: scored(task, rows, answered(rows)) for name, rows in loaded.also.items()}
    test = None if task.test is None or answers is None else scored(task, task.test, answers)
    metrics = {} if task.test is None or answers is None else metrics_of(task, task.test, answers)
    entry = replace(entry, validation=validation, test=test, metrics=metrics, also=also)
    measured = {ABLATION: ablation(backbone, job)} if ABLATION in trial.measures else {}
    return replace(entry, measured=measured), adapter_of(backbone, job.live.tensors(), task, _result(job, entry))


def of_words(trial: Trial, key: str, loaded: Loaded, seconds: float, answers: Sequence[list[int]]) -> Entry:
    """What came of counting words: ``answers`` are those to the validation and the test rows."""
    task = loaded.task
    assert task.test is not None, "a task of the paper has test rows"
    return Entry(
        trial,
        key,
        backbone={"name": None, "fingerprint": ""},
        data=data_of(loaded),
        validation=scored(task, task.validation, answers[0]),
        test=scored(task, task.test, answers[1]),
        metrics=metrics_of(task, task.test, answers[1]),
        seconds=seconds,
        environment=environment(torch.device("cpu"), torch.float64),
    )


def word_answers(method: Mapping[str, Any], task: Task) -> list[list[int]]:
    """The answers of TF-IDF and logistic regression to the validation and the test rows."""
    assert task.test is not None, "a task of the paper has test rows"
    settings = {name: value for name, value in method.items() if name not in ("name", "C")}
    return tfidf_answers(task, [task.validation, task.test], strength=method["C"], **settings)


def ablation(backbone: Backbone, job: Job) -> dict[str, Any]:
    """Test scores of a trained adapter without the bottlenecks of layers ``i`` to ``j``, and of the whole one.

    ``scores[i][j]`` for ``i <= j``, None below. LayerNorms and head stay, and nothing is trained again. Classification
    is scored by its accuracy, as in the paper's figure.
    """
    task, deltas = job.task, job.live.deltas
    rows = task.validation if task.test is None else task.test
    encoded = encoded_as(backbone, job, rows)
    metric = "accuracy" if task.kind == "classification" else task.metric

    def without(first: int, last: int) -> float:
        gone = {f"layer.{layer}" for layer in range(first, last + 1)}
        left = {
            place: delta
            for place, delta in deltas.items()
            if not (isinstance(delta, Bottleneck) and place.rpartition(".")[0] in gone)
        }
        attached = Attached.of(backbone)
        attached.add(job.name, left)
        try:
            answers = predictions_of(backbone, attached, job.live, job.name, encoded)
        finally:
            attached.remove(job.name)
        return score(metric, task.kind, labels_of(rows, task), answers, num_labels=len(task.labels))

    layers = range(backbone.num_layers)
    scores = [[without(first, last) if first <= last else None for last in layers] for first in layers]
    split = "validation" if task.test is None else "test"
    return {"metric": metric, "split": split, "rows": len(rows), "full": without(0, -1), "scores": scores}


def encoded_as(backbone: Backbone, job: Job, rows: Rows) -> Encoded:
    """Rows cut as the job's own are."""
    return encode(backbone.tokenizer, rows, *job.cut)


def scored(task: Task, rows: Rows, answers: list[Target]) -> Score:
    """The task's metric with its interval."""
    of = (task.metric, task.kind, labels_of(rows, task), answers)
    num_labels = len(task.labels)
    return Score(
        task.metric, score(*of, num_labels=num_labels), len(rows), bootstrap_interval(*of, num_labels=num_labels)
    )


def metrics_of(task: Task, rows: Rows, answers: list[Target]) -> dict[str, float]:
    """Every metric that fits the task."""
    return all_scores(task.kind, labels_of(rows, task), answers, num_labels=len(task.labels))


def described(backbone: Backbone) -> dict[str, Any]:
    """What an entry says of a backbone."""
    return {
        "name": backbone.name,
        "architecture": backbone.architecture,
        "fingerprint": backbone.fingerprint,
        "tokenizer": backbone.tokenizer_fingerprint,
        "pooling": backbone.pooling,
        "layers": backbone.num_layers,
        "hidden": backbone.hidden,
        "parameters": backbone.num_parameters,
    }


def data_of(loaded: Loaded) -> dict[str, Any]:
    """What an entry says of its rows."""
    task = loaded.task
    return {
        "digest": task.digest,
        "train": len(task.train),
        "validation": len(task.validation),
        "test": 0 if task.test is None else len(task.test),
        "is_sample": loaded.is_sample,
        "notes": list(task.notes),
    }


def _result(job: Job, entry: Entry) -> Result:
    """For the adapter's header."""
    assert entry.validation is not None, "a sound job has a score"
    task = job.task
    return Result(
        task=task.name,
        method=entry.trial.method,
        recipe=job.recipe.to_json(),
        parameters=entry.parameters,
        train={
            "rows": len(task.train),
            "tokens": job.num_tokens,
            "epochs": len(job.history),
            "seconds": job.seconds,
            "tokens_per_second": job.num_tokens / max(job.seconds, 1e-9),
        },
        validation=entry.validation,
        test=entry.test,
        majority=majority_score(task, task.test or task.validation),
        best_epoch=job.best_epoch,
        truncated=job.train.num_truncated,
        history=job.history,
        label_counts=label_counts(task),
        data_digest=task.digest,
        environment=entry.environment,
    )
