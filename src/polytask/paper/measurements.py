"""From a finished job to an entry: scores, every metric, further rows, ablation, and the adapter."""

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
from polytask.paper.ledger import ABLATION, Entry, Trial
from polytask.suites.tasks import Loaded
from polytask.training.finish import adapter_of
from polytask.training.job import Job, attached_to
from polytask.training.result import Result, Score, environment, label_counts
from polytask.training.scoring import labels_of, predictions_of


def identity(backbone: Backbone) -> str:
    """Everything about a backbone that determines scores: weights, tokenizer, pooling. Part of a trial's key."""
    return f"{backbone.fingerprint} {backbone.tokenizer_fingerprint} {backbone.pooling}"


def entry_of_job(backbone: Backbone, job: Job, trial: Trial, key: str, loaded: Loaded) -> tuple[Entry, Adapter | None]:
    """The entry of a job and its adapter, None if it diverged. The test rows are scored here, once."""
    trained = job.live.num_trained
    entry = Entry(
        trial,
        key,
        backbone=_described(backbone),
        data=_data_of(loaded),
        parameters={
            "trained": trained,
            "head": job.live.num_head,
            "backbone": backbone.num_parameters,
            "percent": 100 * trained / backbone.num_parameters,
        },
        epochs=len(job.history),
        seconds=job.seconds,
        environment=environment(backbone.device, backbone.dtype),
    )
    job.restore_best()
    if job.failure is not None:
        return replace(entry, failure=str(job.failure)), None
    if not torch.isfinite(job.best).all():
        return replace(entry, failure="the parameters of the best epoch are not numbers; lower the learning rate"), None
    task, rows = job.task, {"test": _test_rows(job.task), **loaded.also}
    encoded = {name: encode(backbone.tokenizer, own, *job.cut) for name, own in rows.items()}
    rows, encoded = {"validation": task.validation, **rows}, {"validation": job.validation, **encoded}
    with attached_to(backbone, [job]) as attached:
        answers = {name: predictions_of(backbone, attached, job.live, job.name, encoded[name]) for name in rows}
    scores = {name: _scored(task, own, answers[name]) for name, own in rows.items()}
    entry = replace(
        entry,
        validation=scores.pop("validation"),
        test=scores.pop("test"),
        metrics=_metrics_of(task, answers["test"]),
        also=scores,
        measured={ABLATION: ablation(backbone, job, encoded["test"])} if ABLATION in trial.measures else {},
    )
    return entry, adapter_of(backbone, job.live.tensors(), task, _result(job, entry))


def entry_of_words(trial: Trial, key: str, loaded: Loaded, seconds: float, answers: Sequence[list[int]]) -> Entry:
    """The entry of TF-IDF, from its answers to the validation and the test rows."""
    task = loaded.task
    return Entry(
        trial,
        key,
        backbone={"name": None, "fingerprint": ""},
        data=_data_of(loaded),
        validation=_scored(task, task.validation, answers[0]),
        test=_scored(task, _test_rows(task), answers[1]),
        metrics=_metrics_of(task, answers[1]),
        seconds=seconds,
        environment=environment(torch.device("cpu"), torch.float64),
    )


def word_answers(method: Mapping[str, Any], task: Task) -> list[list[int]]:
    """The answers of TF-IDF and logistic regression to the validation and the test rows."""
    settings = {name: value for name, value in method.items() if name not in ("name", "C")}
    return tfidf_answers(task, [task.validation, _test_rows(task)], strength=method["C"], **settings)


def ablation(backbone: Backbone, job: Job, encoded: Encoded) -> dict[str, Any]:
    """Test scores of a trained adapter without the bottlenecks of layers ``i`` to ``j``, and of the whole adapter.

    ``scores[i][j]`` for ``i <= j``, None below. LayerNorms and head stay, and nothing is retrained. Classification
    is scored by accuracy, as in the paper's figure.
    """
    task, rows = job.task, _test_rows(job.task)
    metric = "accuracy" if task.kind == "classification" else task.metric

    def without(first: int, last: int) -> float:
        removed = {f"layer.{layer}" for layer in range(first, last + 1)}
        left = {
            place: delta
            for place, delta in job.live.deltas.items()
            if not (isinstance(delta, Bottleneck) and place.rpartition(".")[0] in removed)
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
    return {"metric": metric, "split": "test", "rows": len(rows), "full": without(0, -1), "scores": scores}


def _test_rows(task: Task) -> Rows:
    assert task.test is not None, "a task of the paper has test rows"
    return task.test


def _scored(task: Task, rows: Rows, answers: Sequence[Target]) -> Score:
    """The task's metric with its interval."""
    given = (task.metric, task.kind, labels_of(rows, task), answers)
    num_labels = len(task.labels)
    interval = bootstrap_interval(*given, num_labels=num_labels)
    return Score(task.metric, score(*given, num_labels=num_labels), len(rows), interval)


def _metrics_of(task: Task, answers: Sequence[Target]) -> dict[str, float]:
    """Every metric of the task's kind on its test rows."""
    return all_scores(task.kind, labels_of(_test_rows(task), task), answers, num_labels=len(task.labels))


def _described(backbone: Backbone) -> dict[str, Any]:
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


def _data_of(loaded: Loaded) -> dict[str, Any]:
    task = loaded.task
    rows = {"train": len(task.train), "validation": len(task.validation), "test": len(_test_rows(task))}
    return {"digest": task.digest, **rows, "is_sample": loaded.is_sample, "notes": list(task.notes)}


def _result(job: Job, entry: Entry) -> Result:
    """The result in the adapter's header."""
    assert entry.validation is not None, "a job that did not diverge has a score"
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
        majority=majority_score(task, _test_rows(task)),
        best_epoch=job.best_epoch,
        truncated=job.train.num_truncated,
        history=job.history,
        label_counts=label_counts(task),
        data_digest=task.digest,
        environment=entry.environment,
    )
