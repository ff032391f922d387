"""Trains jobs with a launcher, in packs; each pack is one fused training run.

Packs contain rows and recipes, and messages contain adapters. So a machine needs only Polytask and the backbone under
the same name: no data files and no shared folder. A pack gives the same tensors as ``train_many`` with the same jobs,
on the same kind of machine with as many threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import lru_cache
from typing import Any

from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.encoding import Encodings
from polytask.data.task import Task
from polytask.errors import BackboneError, RecipeError
from polytask.launch.local import Message, Pack, Work
from polytask.launch.throttle import Throttle
from polytask.methods import Replacement
from polytask.training.decision import NO_EXTRAS, Extras
from polytask.training.events import Progress, Step
from polytask.training.finish import finish_job
from polytask.training.fused import Outcome, measured_budget
from polytask.training.job import Job
from polytask.training.loop import run_jobs
from polytask.training.recipe import Recipe
from polytask.training.start import StartFrom, starts_of

Jobs = Mapping[str, tuple[Task, Recipe]]
Launch = Callable[[Iterator[Pack], Work], Iterator[Message]]

JOBS_PER_PACK = 8
"""The default number of jobs in a pack, as in ``polytask paper``."""


def train_in_packs(
    launch: Launch,
    backbone: Backbone,
    jobs: Jobs,
    *,
    together: int = JOBS_PER_PACK,
    progress: Progress | None = None,
    budget_tokens: int | None = None,
    with_test: bool = True,
    extras: Extras = NO_EXTRAS,
    start: StartFrom | Mapping[str, StartFrom] = None,
) -> Iterator[tuple[str, Outcome]]:
    """Train jobs with a launcher.

    Args:
        launch: ``run_packs`` of a launcher, with its options.
        backbone: the backbone, loaded here. The machines load the one with the same name and precision, which must have
            the same weights.
        jobs: tasks and recipes by name.
        together: how many jobs train in one pass. A job with a private copy of the backbone trains alone.
        progress: called with each job's ``Step`` (at most five a second), ``Evaluated`` and ``Failed``.
        budget_tokens: maximum tokens of a step of a pack. None: as many as fit into memory, which is measured on the
            machine that trains the pack.
        with_test: score the test rows.
        extras: what to add to each adapter after its training.
        start: as in ``train_many``.

    Yields:
        The name and outcome of each job, as soon as it is finished.

    Raises:
        RecipeError: ``together`` is not a whole number from 1.
        BackboneError: a machine has another backbone of this name.
    """
    if together < 1:
        raise RecipeError(f"{together} jobs cannot train together. Give a whole number from 1")
    report: Progress = progress or (lambda event: None)
    shared = {
        "backbone": _backbone_description(backbone),
        "budget_tokens": budget_tokens,
        "with_test": with_test,
        "extras": extras,
    }
    starts = starts_of(start, list(jobs))
    made = ({**shared, "jobs": pack, "starts": {name: starts[name] for name in pack}} for pack in packs(jobs, together))
    for message in launch(made, train_pack):
        if message["what"] == "event":
            report(message["event"])
        else:
            yield message["name"], message["outcome"]


def packs(jobs: Jobs, together: int) -> Iterator[Jobs]:
    """Split jobs into packs of at most ``together``; a job with a private copy of the backbone is its own pack."""
    shared = [name for name, (_, recipe) in jobs.items() if not isinstance(recipe.method, Replacement)]
    alone = [name for name in jobs if name not in set(shared)]
    for start in range(0, len(shared), together):
        yield {name: jobs[name] for name in shared[start : start + together]}
    yield from ({name: jobs[name]} for name in alone)


def train_pack(pack: Pack) -> Iterator[Message]:
    """Train the jobs of a pack in one fused pass. This is the function that a launcher runs.

    Args:
        pack: ``jobs``, ``backbone``, ``device``, ``budget_tokens``, ``with_test``, ``extras`` and ``starts``.

    Yields:
        ``{"what": "event", "event"}`` and, for each job, ``{"what": "outcome", "name", "outcome"}``.
    """
    backbone = _load_backbone(device=pack["device"], **pack["backbone"])
    encodings = Encodings(backbone.tokenizer)
    jobs, extras = [], {}
    for name, (task, recipe) in pack["jobs"].items():
        own, extras[name] = pack["extras"].prepared(task)
        jobs.append(Job(backbone, own, recipe, name, encodings, pack["starts"][name]))
    throttle = Throttle()
    with closing(
        run_jobs(backbone, jobs, budget_tokens=pack["budget_tokens"] or measured_budget(backbone, jobs))
    ) as run:
        for event in run:
            if not isinstance(event, Step) or throttle.is_due(event.job):
                yield {"what": "event", "event": event}
    for job in jobs:
        job.restore_best()
        outcome = job.failure or finish_job(backbone, job, with_test=pack["with_test"], extras=extras[job.name])
        yield {"what": "outcome", "name": job.name, "outcome": outcome}


def _backbone_description(backbone: Backbone) -> dict[str, Any]:
    """What a machine needs to load the same backbone; a folder is named by its absolute path."""
    return {
        "name": backbone.name,
        "source": os.path.abspath(backbone.name) if os.path.isdir(backbone.name) else backbone.name,
        "pooling": backbone.pooling,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "fingerprint": backbone.fingerprint,
    }


@lru_cache(maxsize=1)
def _load_backbone(name: str, source: str, pooling: Any, dtype: str, fingerprint: str, device: str) -> Backbone:
    backbone = load_backbone(source, device=device, dtype=dtype, pooling=pooling)
    if backbone.fingerprint != fingerprint:
        raise BackboneError(f"{name} has different weights on the training machine and on this one")
    backbone.name = name
    return backbone
