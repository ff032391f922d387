"""Weights and priors of classes, from their frequency among the training rows."""

from __future__ import annotations

import torch
from torch import Tensor

from polytask.data.task import Task
from polytask.errors import RecipeError


def class_weights(task: Task) -> list[float]:
    """A weight per class, proportional to the inverse of its frequency, with a mean of one over the training rows."""
    counts = _class_counts(task)
    return [sum(counts) / (len(counts) * count) if count else 0.0 for count in counts]


def log_priors(task: Task) -> Tensor:
    """The logarithm of each class's share of the training rows, ``[K]``; a class without rows counts as having one.

    Added to the logits in training, it makes the head answer as if all classes were equally frequent.
    """
    counts = torch.tensor(_class_counts(task), dtype=torch.float64).clamp(min=1)
    return (counts / counts.sum()).log()


def _class_counts(task: Task) -> list[int]:
    if task.kind != "classification":
        raise RecipeError(f"class weights are for classification; this task is {task.kind}")
    targets = list(task.train.targets or ())
    return [targets.count(label) for label in range(len(task.labels))]
