"""Finds size and learning rate on the user's data by successive halving (arXiv:1502.07943).

All settings start together. After each rung the worse half stops; each rung ends after twice as many epochs as the one
before. Every job keeps the learning-rate schedule of a full run, so the winner equals ``train`` with its recipe, up to
rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from polytask.adapters.adapter import Adapter
from polytask.backbones.backbone import Backbone
from polytask.data.encoding import Encodings
from polytask.data.task import Kind, Task
from polytask.errors import RecipeError
from polytask.evaluation.none_of_these import DetectNone
from polytask.evaluation.thresholds import Goal
from polytask.methods import Method, Probe
from polytask.training.checkpoint import Checkpoint
from polytask.training.decision import Extras
from polytask.training.events import Event
from polytask.training.finish import finish_job
from polytask.training.fused import measured_budget
from polytask.training.grid import grid, in_words, size_of, varying
from polytask.training.interrupt import deferred_interrupt
from polytask.training.job import Job
from polytask.training.loop import run_jobs
from polytask.training.recipe import LEARNING_RATES, Recipe, takes_recipe
from polytask.training.result import Result
from polytask.training.start import StartFrom, start_from

LR_FACTORS = (0.3, 1, 3, 10)
"""The default learning rates to try, in units of the method's own."""

SIZE_FACTORS = (0.25, 1)
"""The default sizes to try, in units of the method's own."""


@dataclass(frozen=True)
class Trial:
    """A setting that was tried for ``epochs`` epochs, and its best validation score; None if it diverged."""

    name: str
    recipe: Recipe
    epochs: int
    score: float | None


@dataclass(frozen=True)
class Left:
    """A setting was in the worse half and has stopped training."""

    job: str
    epochs: int
    num_epochs: int


Progress = Callable[[Event | Left], None]


@dataclass(frozen=True)
class Tuned:
    """The setting that was chosen, and why.

    Attributes:
        recipe: the chosen recipe, with all defaults filled in.
        adapter: its adapter, equal to that of ``train``.
        result: its result.
        why: one sentence that explains the choice.
        trials: all settings, the best first.
    """

    recipe: Recipe
    adapter: Adapter
    result: Result
    why: str
    trials: tuple[Trial, ...]


class TuneJob(Job):
    """A job that pauses at the end of a rung."""

    pause_epoch = 0

    @property
    def is_done(self) -> bool:
        """Whether the job ended, or has trained ``pause_epoch`` epochs."""
        return super().is_done or self.epoch >= self.pause_epoch

    def rank(self, epochs: int) -> tuple[float, float]:
        """The sort key after ``epochs`` epochs: the best validation score, then the lower training loss."""
        seen = self.history[:epochs]
        if self.failure is not None or not seen:
            return -math.inf, -math.inf
        return max((epoch["score"], -epoch["loss"]) for epoch in seen)


@takes_recipe
def tune(
    backbone: Backbone,
    task: Task,
    base: Recipe | None = None,
    *,
    lr: Sequence[float] = (),
    size: Sequence[int] = (),
    progress: Progress | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    resume: bool = False,
    budget_tokens: int | None = None,
    goal: Goal | None = None,
    none: DetectNone | None = None,
    probe: bool = False,
    start: StartFrom = None,
) -> Tuned:
    """Find a learning rate and a size for a task, and train with them, at the cost of a few ordinary runs.

    Args:
        backbone: a frozen backbone.
        task: rows to train on. Its validation rows choose the setting, so the winner's score is slightly optimistic.
        base: all other settings. If it has a learning rate, only the size is searched.
        lr: the learning rates to try. By default 0.3, 1, 3 and 10 times the method's own.
        size: the sizes (or ranks) to try. By default that of ``base`` and a quarter of it.
        progress: called with each ``Step``, ``Evaluated``, ``Failed`` and ``Left``. Jobs are named by what varies.
        checkpoint: a file for the state of all settings, updated during the run.
        resume: continue from ``checkpoint``, if it exists.
        budget_tokens: the most tokens of a step, all settings together. Settings that do not fit wait. None: measured,
            as in ``train_many``.
        goal, none, probe: as in ``train``, for the setting that is chosen.
        start: as in ``train``, for all settings. It fits one size, so only the learning rate is searched.

    Raises:
        RecipeError: the method has no size to vary, a value is out of range or given twice, or all settings diverged.
        CheckpointError: the checkpoint belongs to another run.
        KeyboardInterrupt: on Ctrl-C, after the checkpoint is written.
    """
    task, extras = Extras(goal, none, probe).prepared(task)
    base, own_start = base or Recipe(), start_from(start)
    sizes = size or sizes_to_try(base.method, is_fixed=own_start is not None)
    recipes = recipes_to_try(base, len(task.train), task.kind, lr=lr, size=sizes)
    encodings = Encodings(backbone.tokenizer)
    jobs = [TuneJob(backbone, task, recipe, name, encodings, own_start) for name, recipe in recipes.items()]
    budget = measured_budget(backbone, jobs) if budget_tokens is None else budget_tokens
    if isinstance(checkpoint, str | Path):
        checkpoint = Checkpoint(checkpoint)
    if checkpoint is not None and resume:
        checkpoint.load(backbone, jobs)
    train_to = partial(_train_to, backbone, jobs, checkpoint=checkpoint, progress=progress, budget_tokens=budget)

    alive, num_epochs = jobs, jobs[0].num_epochs
    for epochs, num_kept in rungs(num_epochs, len(jobs)):
        train_to(alive, epochs)
        ranked = sorted(alive, key=lambda job: job.rank(epochs), reverse=True)
        alive = ranked[:num_kept]
        if progress is not None:
            for job in ranked[num_kept:]:
                progress(Left(job.name, epochs, num_epochs))
    train_to(alive, num_epochs)
    while all(job.failure for job in alive):  # continue the best of the stopped settings instead
        healthy = [job for job in jobs if job.failure is None]
        if not healthy:
            raise RecipeError(f"all {len(jobs)} settings diverged. The first one: {jobs[0].failure}")
        alive = [max(healthy, key=lambda job: job.rank(job.epoch))]
        train_to(alive, num_epochs)
    winner = max(alive, key=lambda job: job.rank(num_epochs))
    winner.restore_best()
    adapter, result = finish_job(backbone, winner, extras=extras)
    trials = _trials(jobs, winner)
    return Tuned(winner.recipe, adapter, result, _why(trials, result, num_epochs), trials)


def recipes_to_try(
    base: Recipe, num_rows: int, kind: Kind, *, lr: Sequence[float] = (), size: Sequence[int] = ()
) -> dict[str, Recipe]:
    """The recipes to try, named by what varies: ``lr 1e-3, size 64``."""
    if isinstance(base.method, Probe):
        raise RecipeError("a probe chooses its regularisation itself and has nothing to tune. Train it without --tune")
    own = LEARNING_RATES[base.method.name]
    rates = (base.lr,) if base.lr is not None else tuple(float(f"{own * factor:.2g}") for factor in LR_FACTORS)
    recipes = grid(base, lr=lr or rates, size=size or sizes_to_try(base.method), seeds=1)
    recipes = [recipe.resolved(num_rows, kind) for recipe in recipes]
    names = varying(recipes)
    named = {in_words({name: recipe.settings()[name] for name in reversed(names)}): recipe for recipe in recipes}
    if len(recipes) < 2:
        raise RecipeError(
            "there is only one setting, so there is nothing to choose. Give several learning rates or sizes"
        )
    if len(named) < len(recipes):
        raise RecipeError(f"a value is given twice: lr={tuple(lr)}, size={tuple(size)}. Give each once")
    return named


def sizes_to_try(method: Method, *, is_fixed: bool = False) -> tuple[int, ...]:
    """The sizes to try by default; only the method's own if it is fixed, and none if it has no size."""
    full = size_of(method)
    shares = (1.0,) if is_fixed else SIZE_FACTORS
    return () if full is None else tuple(dict.fromkeys(max(1, round(full * share)) for share in shares))


def rungs(num_epochs: int, num_settings: int) -> list[tuple[int, int]]:
    """The rungs before the last: the epoch at which each ends, and how many settings continue after it.

    8 settings of 8 epochs have the rungs ``[(1, 4), (2, 2), (4, 1)]``. Each ends after twice as many epochs as the one
    before. With few epochs there are fewer rungs.
    """
    halvings = math.ceil(math.log2(num_settings))
    ends = sorted({math.ceil(num_epochs / 2**number) for number in range(1, halvings + 1)} - {num_epochs})
    return [(end, math.ceil(num_settings / 2 ** (number + 1))) for number, end in enumerate(ends)]


def _train_to(
    backbone: Backbone,
    jobs: Sequence[TuneJob],
    alive: Sequence[TuneJob],
    epochs: int,
    *,
    checkpoint: Checkpoint | None,
    progress: Progress | None,
    budget_tokens: int | None,
) -> None:
    """Train the settings that are still alive to the end of a rung; the checkpoint holds all ``jobs``."""
    for job in alive:
        job.pause_epoch = epochs
    with deferred_interrupt() as interrupted, closing(run_jobs(backbone, alive, budget_tokens=budget_tokens)) as events:
        for event in events:
            if progress is not None:
                progress(event)
            if checkpoint is not None:
                checkpoint.write_if_due(backbone, jobs)
            if interrupted():
                if checkpoint is not None:
                    checkpoint.write(backbone, jobs)
                raise KeyboardInterrupt


def _trials(jobs: Sequence[TuneJob], winner: TuneJob) -> tuple[Trial, ...]:
    """All trials: the winner, the others by epochs and rank, and those that diverged last."""
    ordered = sorted(
        jobs, key=lambda job: (job is winner, job.failure is None, job.epoch, job.rank(job.epoch)), reverse=True
    )
    return tuple(
        Trial(job.name, job.recipe, len(job.history), None if job.failure else job.best_score) for job in ordered
    )


def _why(trials: Sequence[Trial], result: Result, num_epochs: int) -> str:
    """``lr 1e-3, size 64: accuracy 0.912 on 160 validation rows; the next best, …, had 0.905 after 4 of 8 epochs``."""
    best, others = trials[0], [trial for trial in trials[1:] if trial.score is not None]
    of = result.validation
    sentence = f"{best.name}: {of.metric} {of.score:.3f} on {of.rows:,} validation rows"
    if others:
        runner_up = max(others, key=lambda trial: trial.score or 0.0)
        had = "had the same at a higher training loss" if runner_up.score == of.score else f"had {runner_up.score:.3f}"
        stopped = (
            f" after {runner_up.epochs} of {num_epochs} epoch{'s' * (num_epochs != 1)}"
            if runner_up.epochs < num_epochs
            else ""
        )
        sentence += f"; the next best, {runner_up.name}, {had}{stopped}"
    diverged = len(trials) - 1 - len(others)
    return sentence + (f"; {diverged} of {len(trials)} settings diverged" if diverged else "")
