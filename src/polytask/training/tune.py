"""Size and learning rate found on the user's own data, by successive halving.

All settings start together. After one rung the worse half leaves, after the next the half of the rest; rungs are
twice as long each time. Unusual here: each job keeps the learning-rate schedule of its full length, so that the winner
is, to the last bit but for rounding, what ``train`` makes of its recipe alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from polytask.adapters.adapter import Adapter
from polytask.backbones.backbone import Backbone
from polytask.data.encoding import Encodings
from polytask.data.task import Task
from polytask.errors import RecipeError
from polytask.training.checkpoint import Checkpoint
from polytask.training.events import Event
from polytask.training.finish import finished
from polytask.training.fused import measured_budget
from polytask.training.grid import grid, in_words, size_of, varying
from polytask.training.interrupt import deferred_interrupt
from polytask.training.job import Job
from polytask.training.loop import run_jobs
from polytask.training.recipe import LEARNING_RATES, Recipe
from polytask.training.result import Result

RATES = (0.3, 1, 3, 10)
"""Tried unless given, in units of the method's own learning rate."""

SHARES = (0.25, 1)
"""Tried unless given, in units of the method's size."""


@dataclass(frozen=True)
class Trial:
    """A setting that was tried for ``epochs`` epochs, and its best validation score; None where it diverged."""

    name: str
    recipe: Recipe
    epochs: int
    score: float | None


@dataclass(frozen=True)
class Left:
    """A setting was among the worse half and trains no longer."""

    job: str
    epochs: int
    num_epochs: int


Progress = Callable[[Event | Left], None]


@dataclass(frozen=True)
class Tuned:
    """What was chosen, and why.

    Attributes:
        recipe: the chosen one, with nothing left to choose.
        adapter: what it trained, equal to ``train`` with it.
        result: what came of it.
        why: one sentence for a person.
        trials: all settings, the best first.
    """

    recipe: Recipe
    adapter: Adapter
    result: Result
    why: str
    trials: tuple[Trial, ...]


class Contender(Job):
    """A job that pauses when a rung is over."""

    until = 0

    @property
    def is_done(self) -> bool:
        """Whether it ended, or ``until`` epochs are over."""
        return super().is_done or self.epoch >= self.until

    def standing(self, epochs: int) -> tuple[float, float]:
        """How good it was after so many epochs: the best validation score; of equal ones, the lower training loss."""
        seen = self.history[:epochs]
        if self.failure is not None or not seen:
            return -math.inf, -math.inf
        return max((epoch["score"], -epoch["loss"]) for epoch in seen)


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
) -> Tuned:
    """Find a learning rate and a size for a task, and train with them, at the price of a few ordinary runs.

    Args:
        backbone: a frozen backbone.
        task: rows to train on; its validation rows choose, so their score flatters what was chosen a little.
        base: everything else. A learning rate in it is kept; None is to be found.
        lr: the rates to try instead, of 0.3, 1, 3 and 10 times the method's own.
        size: the sizes (or ranks) to try, of the base's and a quarter of it.
        progress: called with each ``Step``, ``Evaluated``, ``Failed`` and ``Left``; jobs are named by what varies.
        checkpoint: a file that keeps the state of all of them.
        resume: go on from ``checkpoint`` if it is there.
        budget_tokens: tokens of one step, all settings together; what does not fit waits its turn. Unless given it is
            measured, as in ``train_many``.

    Raises:
        RecipeError: the method has no size to vary, a value is out of range or there twice, or all settings diverged.
        CheckpointError: the checkpoint belongs to something else.
        KeyboardInterrupt: on Ctrl-C, after the checkpoint is written.
    """
    recipes = contenders(base or Recipe(), len(task.train), lr=lr, size=size)
    encodings = Encodings(backbone.tokenizer)
    jobs = [Contender(backbone, task, recipe, name, encodings) for name, recipe in recipes.items()]
    budget = measured_budget(backbone, jobs) if budget_tokens is None else budget_tokens
    kept = Checkpoint(checkpoint) if isinstance(checkpoint, str | Path) else checkpoint
    if kept is not None and resume:
        kept.load(backbone, jobs)

    def climb(some: Sequence[Contender], epochs: int) -> None:
        _climb(backbone, some, jobs, epochs, kept, progress, budget)

    alive, num_epochs = jobs, jobs[0].num_epochs
    for epochs, num_kept in rungs(num_epochs, len(jobs)):
        climb(alive, epochs)
        ranked = sorted(alive, key=lambda job: job.standing(epochs), reverse=True)
        alive = ranked[:num_kept]
        if progress is not None:
            for job in ranked[num_kept:]:
                progress(Left(job.name, epochs, num_epochs))
    climb(alive, num_epochs)
    while all(job.failure for job in alive):  # late: the best of those that left takes their place
        sound = [job for job in jobs if job.failure is None]
        if not sound:
            raise RecipeError(f"all {len(jobs)} settings diverged, one of them so: {jobs[0].failure}")
        alive = [max(sound, key=lambda job: job.standing(job.epoch))]
        climb(alive, num_epochs)
    winner = max(alive, key=lambda job: job.standing(num_epochs))
    winner.restore_best()
    adapter, result = finished(backbone, winner)
    trials = _trials(jobs, winner)
    return Tuned(winner.recipe, adapter, result, _why(trials, result, num_epochs), trials)


def contenders(base: Recipe, num_rows: int, *, lr: Sequence[float] = (), size: Sequence[int] = ()) -> dict[str, Recipe]:
    """The recipes to try by what varies in them: ``lr 1e-3, size 64``."""
    own = LEARNING_RATES[base.method.name]
    around = (base.lr,) if base.lr is not None else tuple(float(f"{own * factor:.2g}") for factor in RATES)
    full = size_of(base.method)
    sizes = () if full is None else tuple(dict.fromkeys(max(1, round(full * share)) for share in SHARES))
    recipes = grid(base, lr=lr or around, size=size or sizes, seeds=1)
    recipes = [recipe.resolved(num_rows) for recipe in recipes]
    names = varying(recipes)
    named = {in_words({name: recipe.settings()[name] for name in reversed(names)}): recipe for recipe in recipes}
    if len(recipes) < 2:
        raise RecipeError("there is one setting only, and nothing to choose. Leave the learning rate or the size open")
    if len(named) < len(recipes):
        raise RecipeError(f"a value is there twice: lr={tuple(lr)}, size={tuple(size)}. Give each once")
    return named


def rungs(num_epochs: int, num_settings: int) -> list[tuple[int, int]]:
    """After which epochs to look, and how many settings go on: of 8 settings and epochs ``[(1, 4), (2, 2), (4, 1)]``.

    Each rung is twice as long as the one before, the last ends with the recipe. Of few epochs there are fewer rungs.
    """
    halvings = math.ceil(math.log2(num_settings))
    ends = sorted({math.ceil(num_epochs / 2**number) for number in range(1, halvings + 1)} - {num_epochs})
    return [(end, math.ceil(num_settings / 2 ** (number + 1))) for number, end in enumerate(ends)]


def _climb(
    backbone: Backbone,
    alive: Sequence[Contender],
    jobs: Sequence[Contender],
    epochs: int,
    checkpoint: Checkpoint | None,
    progress: Progress | None,
    budget_tokens: int | None,
) -> None:
    """Train those still alive to the end of a rung; the checkpoint holds those that left, too."""
    for job in alive:
        job.until = epochs
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


def _trials(jobs: Sequence[Contender], winner: Contender) -> tuple[Trial, ...]:
    """The winner, then by how far they came and how good they were there; last those that diverged."""
    ordered = sorted(
        jobs, key=lambda job: (job is winner, job.failure is None, job.epoch, job.standing(job.epoch)), reverse=True
    )
    return tuple(
        Trial(job.name, job.recipe, len(job.history), None if job.failure else job.best_score) for job in ordered
    )


def _why(trials: Sequence[Trial], result: Result, num_epochs: int) -> str:
    """``lr 1e-3, size 64: accuracy 0.912 on 160 validation rows; the next best, …, had 0.905 after 4 of 8 epochs``."""
    best, others = trials[0], [trial for trial in trials[1:] if trial.score is not None]
    of = result.validation
    said = f"{best.name}: {of.metric} {of.score:.3f} on {of.rows:,} validation rows"
    if others:
        following = max(others, key=lambda trial: trial.score or 0.0)
        had = "had the same at a higher training loss" if following.score == of.score else f"had {following.score:.3f}"
        stopped = (
            f" after {following.epochs} of {num_epochs} epoch{'s' * (num_epochs != 1)}"
            if following.epochs < num_epochs
            else ""
        )
        said += f"; the next best, {following.name}, {had}{stopped}"
    diverged = len(trials) - 1 - len(others)
    return said + (f"; {diverged} of {len(trials)} settings diverged" if diverged else "")
