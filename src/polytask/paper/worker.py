"""Runs one pack of trials: what every launcher runs, wherever it does.

Trials that share a backbone train in the same steps. Each has a checkpoint of its own, so that it continues in whatever
pack it is next. Nothing here writes results: entries are messages.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import lru_cache
from pathlib import Path

from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.errors import AdapterError, DataError
from polytask.launch.checkpoints import Checkpoints
from polytask.launch.local import Message, Pack
from polytask.launch.throttle import Throttle
from polytask.methods import Replacement
from polytask.paper import measurements
from polytask.paper.ledger import Trial
from polytask.suites.tasks import Loaded, read
from polytask.training.events import Evaluated, Failed, Step
from polytask.training.fused import measured_budget
from polytask.training.interrupt import deferred_interrupt
from polytask.training.job import Job
from polytask.training.loop import run_jobs
from polytask.training.recipe import Recipe

UNDER_WAY, ADAPTERS = "under-way", "adapters"


def work(pack: Pack) -> Iterator[Message]:
    """Run the trials of a pack.

    Args:
        pack: ``trials`` by their keys, ``folder`` of the edition's results, ``data`` (a folder or None), ``backbone``,
            ``device``, ``dtype``, ``share`` of the machine's memory, ``adapters`` (whether to keep their files).

    Yields:
        ``{"what": "step", "key", "step", "num_steps", "epoch", "num_epochs"}``, ``{"what": "note", "text"}`` and for
        each finished trial ``{"what": "entry", "key", "entry"}``.

    Raises:
        DataError: the rows or the backbone are not those that the keys were made of.
        KeyboardInterrupt: on Ctrl-C, after all checkpoints are written.
    """
    trials = {key: Trial.from_json(values) for key, values in pack["trials"].items()}
    trained = {key: trial for key, trial in trials.items() if trial.has_backbone}
    for key, trial in trials.items():
        if key not in trained:
            yield _fit_words(trial, key, pack)
    if trained:
        yield from _train(trained, pack)


def _fit_words(trial: Trial, key: str, pack: Pack) -> Message:
    own = _checked(trial, key, pack)
    started = time.perf_counter()
    answers = _word_answers(rows_of(trial), pack["data"], json.dumps(trial.method, sort_keys=True))
    entry = measurements.entry_of_words(trial, key, own, time.perf_counter() - started, answers)
    return {"what": "entry", "key": key, "entry": entry.to_json()}


def _train(trials: Mapping[str, Trial], pack: Pack) -> Iterator[Message]:
    backbone = _backbone(pack["backbone"], pack["device"], pack["dtype"])
    own = {key: _checked(trial, key, pack, backbone) for key, trial in trials.items()}
    jobs = [Job(backbone, own[key].task, Recipe.from_json(trial.recipe), key) for key, trial in trials.items()]
    checkpoints = Checkpoints(Path(pack["folder"]) / UNDER_WAY)
    yield from ({"what": "note", "text": note} for note in checkpoints.load(backbone, jobs))

    def finished(job: Job) -> Message:
        return _finished(backbone, job, trials[job.name], own[job.name], pack)

    yield from (finished(job) for job in jobs if job.is_done)  # killed after their last step
    pending = {job.name: job for job in jobs if not job.is_done}
    if not pending:
        return
    budget_tokens = max(1, int(measured_budget(backbone, list(pending.values())) * pack["share"]))
    throttle = Throttle()
    running = closing(run_jobs(backbone, list(pending.values()), budget_tokens=budget_tokens))
    with deferred_interrupt() as interrupted, running as events:
        for event in events:
            if isinstance(event, Step) and throttle.is_due(event.job):
                at = {name: getattr(event, name) for name in ("step", "num_steps", "epoch", "num_epochs")}
                yield {"what": "step", "key": event.job, **at}
            if isinstance(event, Evaluated | Failed) and pending[event.job].is_done:
                yield finished(pending.pop(event.job))
            checkpoints.write(backbone, list(pending.values()), is_due=interrupted())
            if interrupted():
                raise KeyboardInterrupt


def _finished(backbone: Backbone, job: Job, trial: Trial, own: Loaded, pack: Pack) -> Message:
    """The message of a job that is done; its adapter is saved if the pack asks for it."""
    try:
        entry, adapter = measurements.entry_of_job(backbone, job, trial, job.name, own)
    except AdapterError as error:  # a tensor that is not numbers
        job.failure = error  # type: ignore[assignment]
        entry, adapter = measurements.entry_of_job(backbone, job, trial, job.name, own)
    if adapter is not None and pack["adapters"] and not isinstance(job.recipe.method, Replacement):
        adapter.save(adapter_path(pack["folder"], job.name))
    return {"what": "entry", "key": job.name, "entry": entry.to_json()}


def adapter_path(folder: str | Path, key: str) -> Path:
    """The file of a trial's adapter."""
    return Path(folder) / ADAPTERS / f"{key}.safetensors"


RowsKey = tuple[str, int | None, int | None, int | None]


def rows_of(trial: Trial) -> RowsKey:
    """What determines a trial's rows: the task and its caps."""
    return trial.task, trial.max_rows, trial.max_validation, trial.max_test


@lru_cache(maxsize=2)
def loaded(rows: RowsKey, data: str | None) -> Loaded:
    """A task's rows; the last ones read are kept."""
    return read(rows[0], data, max_rows=rows[1], max_validation=rows[2], max_test=rows[3])


def _checked(trial: Trial, key: str, pack: Pack, backbone: Backbone | None = None) -> Loaded:
    own = loaded(rows_of(trial), pack["data"])
    if trial.key("" if backbone is None else measurements.identity(backbone), own.task.digest) != key:
        raise DataError(
            f"the rows of {trial.task}, or the weights of {pack['backbone']}, are not those on the machine that asked",
            file=pack["data"],
        )
    return own


@lru_cache(maxsize=1)
def _backbone(name: str, device: str, dtype: str) -> Backbone:
    return load_backbone(name, device=device, dtype=dtype)


@lru_cache(maxsize=256)
def _word_answers(rows: RowsKey, data: str | None, settings: str) -> list[list[int]]:
    """TF-IDF draws nothing at random: every seed has the same answers."""
    return measurements.word_answers(json.loads(settings), loaded(rows, data).task)
