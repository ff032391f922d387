"""Progress events of a training run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from polytask.errors import RecipeError


@dataclass(frozen=True)
class Step:
    """A job took a step.

    Attributes:
        job: the job's name.
        step: the number of the step, from 1.
        num_steps: the steps of all epochs.
        epoch: the number of the step's epoch, from 1.
        num_epochs: the number of epochs.
        loss: the mean loss of the step's rows; on a GPU that of the last step whose loss was read.
        tokens: tokens since the job's start, without padding.
        seconds: seconds since the job's start.
        padding: the share of padding in the step's batch, 0 to 1.
        lr: the learning rate of the step.
    """

    job: str
    step: int
    num_steps: int
    epoch: int
    num_epochs: int
    loss: float
    tokens: int
    seconds: float
    padding: float
    lr: float


@dataclass(frozen=True)
class Evaluated:
    """A job ended an epoch and was scored on its validation rows."""

    job: str
    epoch: int
    num_epochs: int
    metric: str
    score: float
    is_best: bool


@dataclass(frozen=True)
class Failed:
    """A job diverged and stopped; the others continue."""

    job: str
    error: RecipeError


Event = Step | Evaluated | Failed

Progress = Callable[[Event], None]
