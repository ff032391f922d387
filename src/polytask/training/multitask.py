"""Multi-task training: one adapter's weights, trained on several tasks at once, with a head for each task.

Each step takes a batch of one task, drawn in proportion to the square root of its number of rows, so that large tasks
do not crowd out small ones. There is no loop of its own: ``MultitaskJob`` is a job like any other.

The outcome is an adapter for each task. They differ in their heads only, and each can be the start of other trainings
(``train(start=…)``).
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from polytask.adapters.adapter import Adapter
from polytask.backbones.backbone import Backbone
from polytask.data.encoding import Encoded, Encodings, joined
from polytask.data.task import Kind, Task
from polytask.dropout import key_seed
from polytask.errors import BackboneError, RecipeError
from polytask.evaluation.heads import Head
from polytask.methods import Probe
from polytask.training.checkpoint import Checkpoint
from polytask.training.events import Progress
from polytask.training.finish import finish_job
from polytask.training.job import Job, attached_to
from polytask.training.job_checks import check_type
from polytask.training.loop import train_jobs
from polytask.training.recipe import Recipe, takes_recipe
from polytask.training.result import Result
from polytask.training.scoring import validate
from polytask.training.start import Start, StartFrom, start_from

SETTLED = ("epochs", "lr", "head_start", "keep_epoch")
"""Settings whose defaults depend on the number of rows of all tasks."""
POWER = 0.5
"""Tasks are drawn in proportion to this power of their numbers of rows."""


@takes_recipe
def train_multitask(
    backbone: Backbone,
    tasks: Sequence[Task],
    recipe: Recipe | None = None,
    *,
    progress: Progress | None = None,
    checkpoint: str | Path | Checkpoint | None = None,
    resume: bool = False,
    start: StartFrom = None,
) -> dict[str, tuple[Adapter, Result]]:
    """Train one adapter on several tasks at once, with a head for each task.

    The epoch with the best mean of the tasks' validation scores is kept. One task is trained as by ``train``.

    Args:
        backbone: a frozen backbone.
        tasks: with different names; kinds, labels and metrics may differ.
        recipe: how to train. An epoch has as many steps as one pass over the rows of all tasks would take.
        progress: called with each ``Step`` and ``Evaluated``.
        checkpoint: a file for the state of the run, updated during the run.
        resume: continue from ``checkpoint``, if it exists.
        start: as in ``train``.

    Returns:
        By the task's name, an adapter and its result. All adapters have the same tensors but for the head; scores are
        those of their own tasks.

    Raises:
        RecipeError: two tasks have one name, the recipe does not fit a task, or training diverged.
        CheckpointError: the checkpoint belongs to another run.
        KeyboardInterrupt: on Ctrl-C, after the checkpoint is written.
    """
    check_type(backbone, Backbone, BackboneError)
    job = MultitaskJob(backbone, tasks, recipe or Recipe(), start_from(start))
    train_jobs(backbone, [job], progress=progress, checkpoint=checkpoint, resume=resume)
    if job.failure is not None:
        raise job.failure
    return {part.task.name: _finished(backbone, job, part) for part in job.parts}


class MultitaskJob(Job):
    """The training of one adapter on several tasks.

    Its parts are the jobs of the tasks: their rows, targets and heads. They share the deltas of the first.

    Args:
        backbone, tasks, recipe, start: as in ``train_multitask``.
    """

    def __init__(self, backbone: Backbone, tasks: Sequence[Task], recipe: Recipe, start: Start | None = None) -> None:
        _check_tasks(tasks, recipe)
        encodings = Encodings(backbone.tokenizer)
        self._parts = [Job(backbone, task, recipe, task.name, encodings, start) for task in tasks]
        settled = recipe.resolved(sum(len(part.train) for part in self._parts), _common_kind(tasks))
        for part in self._parts:
            part.recipe = replace(part.recipe, **{name: getattr(settled, name) for name in SETTLED})
        first = self._parts[0]
        self.task, self.recipe, self.live, self.origin = first.task, first.recipe, first.live, first.origin
        self.num_passes, self.mixture = first.num_passes, None
        self.name, self.key = "+".join(task.name for task in tasks), (recipe.seed, self.digest)
        self.train = _joined([part.train for part in self._parts])
        self._first_rows = list(itertools.accumulate((len(part.train) for part in self._parts), initial=0))
        self.begin(self._shared_parameters(), sum(part.steps_an_epoch for part in self._parts))
        for part in self._parts:
            part.optimizer, part.best, part.average = self.optimizer, self.best, None
        self._draws = self._drawn()

    @property
    def parts(self) -> list[Job]:
        """The jobs of the tasks."""
        return self._parts

    @property
    def digest(self) -> str:
        """SHA-256 of the digests of the tasks, or that of a single one."""
        digests = [part.task.digest for part in self._parts]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def metric(self) -> str:
        """The metric of all tasks, or ``score`` if they have different ones."""
        metrics = {part.task.metric for part in self._parts}
        return metrics.pop() if len(metrics) == 1 else "score"

    @property
    def head(self) -> Head:
        """The head of the next step's task."""
        return self._advanced_part()[0].head

    def next_rows(self) -> list[int]:
        """The rows of the next step, numbered through all tasks."""
        part, first_row = self._advanced_part()
        return [first_row + row for row in part.next_rows()]

    def loss(self, vectors: Tensor, rows: Sequence[int]) -> Tensor:
        """The mean loss over the rows of a step, all of one task."""
        part, first_row = self._advanced_part()
        return part.loss(vectors, [row - first_row for row in rows])

    def _advanced_part(self) -> tuple[Job, int]:
        """The job of the next step's task, set to its own step, and the number of its first row."""
        number, step = self._draws[self.step]
        self._parts[number].step = step
        return self._parts[number], self._first_rows[number]

    def _shared_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters of the first part, whose deltas all parts share from now on, and the heads of the others."""
        first, *others = self._parts
        parameters = dict(first.live.tree.named_parameters())
        for part in others:
            part.live.share(first.live)
            parameters |= {f"{part.name}/{name}": p for name, p in part.live.head.named_parameters()}
        return parameters

    def _drawn(self) -> list[tuple[int, int]]:
        """For each step, the number of its task and which step of that task it is."""
        draw = random.Random(key_seed(*self.key, "tasks"))
        weights = [len(part.train) ** POWER for part in self._parts]
        counts = [0] * len(self._parts)
        drawn = []
        for number in draw.choices(range(len(self._parts)), weights, k=self.num_steps):
            drawn.append((number, counts[number]))
            counts[number] += 1
        return drawn


def _finished(backbone: Backbone, job: MultitaskJob, part: Job) -> tuple[Adapter, Result]:
    """The adapter and result of a task. Tokens, seconds and history are those of the whole training."""
    for name in ("step", "num_steps", "history", "best_epoch", "num_tokens", "seconds", "padding_sum", "num_grouped"):
        setattr(part, name, getattr(job, name))
    with attached_to(backbone, [part]) as attached:
        part.best_score = validate(backbone, attached, part)
    return finish_job(backbone, part, together=[other.task.name for other in job.parts])


def _joined(parts: Sequence[Encoded]) -> Encoded:
    """All encodings as one, with the rows numbered through."""
    firsts = itertools.accumulate((part.num_rows for part in parts), initial=0)
    return joined([(part, range(first, first + part.num_rows)) for first, part in zip(firsts, parts)])


def _common_kind(tasks: Sequence[Task]) -> Kind | None:
    """The kind of all tasks; None if they have different ones."""
    kinds = {task.kind for task in tasks}
    return kinds.pop() if len(kinds) == 1 else None


def _check_tasks(tasks: Sequence[Task], recipe: Recipe) -> None:
    if not tasks:
        raise RecipeError("there is no task to train on. Give at least one")
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise RecipeError(f"two tasks have one name: {', '.join(names)}. Give each its own")
    if isinstance(recipe.method, Probe):
        raise RecipeError("a probe trains a head only, so tasks have nothing to share. Choose a method")
    if recipe.num_modules > 1:
        raise RecipeError("num_modules is for the training of one task. Leave it out, or train each task by itself")
