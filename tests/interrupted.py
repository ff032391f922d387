"""Trains a job uninterrupted, and another one like it that is stopped and resumed from its checkpoint."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import torch

from polytask.backbones.backbone import Backbone
from polytask.training.checkpoint import Checkpoint
from polytask.training.job import Job
from polytask.training.loop import run_jobs

STOP_AFTER = 9
"""Events of the run that is stopped."""


def check_resumed_equals_whole(backbone: Backbone, job: Callable[[], Job], path: Path) -> None:
    """Assert that both end with the same parameters, best epoch and history.

    Args:
        job: makes a new job.
        path: of the checkpoint.
    """
    whole, first, second = job(), job(), job()
    for _ in run_jobs(backbone, [whole]):
        pass
    for _ in itertools.islice(run_jobs(backbone, [first]), STOP_AFTER):
        pass
    checkpoint = Checkpoint(path)
    checkpoint.write(backbone, [first])
    assert checkpoint.load(backbone, [second])
    for _ in run_jobs(backbone, [second]):
        pass
    assert whole.step > first.step > 0
    assert torch.equal(whole.optimizer.flat, second.optimizer.flat)
    assert torch.equal(whole.best, second.best)
    assert whole.history == second.history
