"""Progress events of a training run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from polytask.errors import RecipeError


@dataclass(frozen=True)
class Step:
    """A step was taken. ``tokens`` (without padding) and ``seconds`` are sums since the job's start.

    ``padding`` is the share of padding in the step's batch.
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
    """An epoch ended and was scored on the validation rows."""

    job: str
    epoch: int
    num_epochs: int
    metric: str
    score: float
    is_best: bool


@dataclass(frozen=True)
class Failed:
    """A job diverged and left; the others go on."""

    job: str
    error: RecipeError


Event = Step | Evaluated | Failed

Progress = Callable[[Event], None]
