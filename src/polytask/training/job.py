"""``Job``: the training of one adapter: its rows, step, optimizer and best epoch; all that a checkpoint holds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter, num_trained
from polytask.backbones.backbone import Backbone
from polytask.backbones.entry_point import FIRST, EntryPoint
from polytask.data.batches import epoch_batches
from polytask.data.encoding import Cut, Encodings
from polytask.data.task import Rows, Target, Task
from polytask.dropout import DropoutKey, Key, keep_mask
from polytask.errors import BackboneError, DataError, PolytaskError, PolytaskWarning, RecipeError
from polytask.evaluation.heads import RegressionHead
from polytask.memory import free_bytes
from polytask.methods import Method
from polytask.training.optimizer import FlatAdam, linear_schedule
from polytask.training.recipe import Recipe

COPIES = 5
"""Numbers held per trained parameter: itself, its gradient, Adam's two moments, and the best epoch's value."""
MAX_UNKNOWN = 0.1
"""The share of unknown training tokens above which a warning is given. English has under 0.005 with MiniLM."""

_MADE_BY: dict[type, str] = {
    Backbone: ". Load one: pt.load_backbone(name)",
    Task: '. Make one from a file, a table or lists: pt.read_task(data, "name", text="COLUMN", label="COLUMN")',
    Recipe: ". Make one: pt.Recipe(pt.Houlsby(64), lr=1e-3, epochs=5)",
}


class Job:
    """The training of one task with one recipe.

    Its randomness is a function of (seed, data, step, site), so it does not depend on jobs that train at the same time.

    Args:
        backbone: a frozen backbone.
        task: rows to train on and to validate with.
        recipe: how to train; settings that are None are chosen here.
        name: the job's name; by default the task's.
        encodings: encoded texts, shared by jobs of the same task.

    Raises:
        RecipeError: the recipe does not fit the task, or the adapter does not fit into memory.
    """

    def __init__(
        self,
        backbone: Backbone,
        task: Task,
        recipe: Recipe,
        name: str | None = None,
        encodings: Encodings | None = None,
    ) -> None:
        check_type(backbone, Backbone, BackboneError)
        check_type(task, Task, DataError)
        check_type(recipe, Recipe, RecipeError)
        backbone.check_trainable()
        check_memory(backbone, recipe.method.fitted(backbone.row.is_pre_norm))
        self.name = name or task.name
        self.encodings = encodings or Encodings(backbone.tokenizer)
        warn_if_too_long(recipe.max_length, backbone)
        self.max_length = min(recipe.max_length, backbone.max_length)
        recipe = recipe.fitted(task.kind, self.max_length, backbone.row.is_pre_norm)
        self.cut: Cut = (self.max_length, recipe.long, recipe.stride)
        self.train = self.encodings.of(task.train, *self.cut)
        self.validation = self.encodings.of(task.validation, *self.cut)
        warn_of_unknown_tokens(self.train.ids, backbone.tokenizer)
        self.task, self.recipe = task, recipe.resolved(len(self.train))
        self.key: Key = (self.recipe.seed, task.digest)
        self.live = LoadedAdapter(backbone, recipe.method, task.kind, task.labels, key=self.key)
        self.targets = self.live.head.training_targets(self.train, _targets(task.train))
        if isinstance(self.live.head, RegressionHead):
            self.live.head.standardise(self.targets)
        weighting = self.recipe.class_weights
        self.weights = class_weights(task) if weighting == "balanced" else None
        self.log_priors = log_priors(task).to(backbone.device) if weighting == "logit-adjusted" else None
        self.optimizer = FlatAdam(
            dict(self.live.tree.named_parameters()),
            weight_decay=self.recipe.weight_decay,
            clip=self.recipe.clip,
            epsilon=self.recipe.epsilon,
            bias_correction=self.recipe.bias_correction,
        )
        self.steps_an_epoch = -(-len(self.train) // self.recipe.batch_size)
        self.num_epochs = self.recipe.epochs or 1
        self.num_steps = self.steps_an_epoch * self.num_epochs
        self.step, self.lr = 0, 0.0
        self.best_score, self.best_epoch = -math.inf, 0
        self.best: Tensor = self.optimizer.flat.clone()
        self.history: list[dict[str, float]] = []
        self.num_tokens, self.seconds, self.loss_sum = 0, 0.0, 0.0
        self.padding_sum, self.num_grouped, self.is_grouped = 0.0, 0, False
        self.failure: RecipeError | None = None
        self._plan: tuple[int, list[list[int]]] = (-1, [])

    @property
    def epoch(self) -> int:
        """The number of complete epochs."""
        return self.step // self.steps_an_epoch

    @property
    def ends_epoch(self) -> bool:
        """Whether the last step ended an epoch."""
        return self.step > 0 and self.step % self.steps_an_epoch == 0

    @property
    def is_done(self) -> bool:
        """Whether all epochs are over, ``patience`` ended training, or the job failed."""
        patience = self.recipe.patience
        is_stale = patience is not None and self.ends_epoch and len(self.history) - self.best_epoch >= patience
        return self.step >= self.num_steps or is_stale or self.failure is not None

    @property
    def entry(self) -> EntryPoint:
        """Where the job's steps enter the backbone; the states that enter there are cached."""
        return self.live.lowest if self.recipe.keep_prefix else FIRST

    @property
    def padding(self) -> float:
        """The mean share of padding in the job's batches, 0 to 1."""
        return self.padding_sum / max(self.step, 1)

    @property
    def routing(self) -> Literal["looped", "grouped"]:
        """``grouped`` if the job's deltas ran together with those of other jobs in most steps, else ``looped``."""
        return "grouped" if 2 * self.num_grouped > self.step else "looped"

    @property
    def batch_tokens(self) -> int:
        """The most tokens of one of its steps, padding included."""
        return self.recipe.batch_size * max(self.train.lengths)

    @property
    def next_shape(self) -> tuple[int, int]:
        """The number of rows of the next step, and the tokens of the longest."""
        rows = self.next_rows()
        return len(rows), max(len(self.train.ids[row]) for row in rows)

    def next_rows(self) -> list[int]:
        """The training rows of the next step."""
        epoch, at = divmod(self.step, self.steps_an_epoch)
        if self._plan[0] != epoch:
            plan = epoch_batches(self.train.lengths, self.recipe.batch_size, epoch, *self.key, "shuffle")
            self._plan = (epoch, plan)
        return self._plan[1][at]

    def dropout_key(self, first: int, rows: Sequence[int]) -> DropoutKey:
        """The dropout key of the job's rows in a batch, where they begin at row ``first``."""
        lengths = tuple(len(self.train.ids[row]) for row in rows)
        return DropoutKey(slice(first, first + len(rows)), (*self.key, self.step), lengths)

    def loss(self, vectors: Tensor, rows: Sequence[int]) -> Tensor:
        """The mean loss over the rows of a step.

        Args:
            vectors: one vector per row ``[B, D]``; for heads that read tokens one per token ``[B, T, D]``, where ``T``
                is the longest of these rows, however far the batch is padded for other jobs.
            rows: the training rows, as from ``next_rows``.
        """
        if self.recipe.head_dropout:
            mask = keep_mask(tuple(vectors.shape), self.recipe.head_dropout, (*self.key, self.step, "head"), vectors)
            vectors = vectors * mask
        head = self.live.head
        picked = [self.targets[row] for row in rows]
        outputs = head(vectors)
        if self.log_priors is not None:
            outputs = outputs + self.log_priors.to(outputs.dtype)
        losses = head.losses(outputs, head.targets(picked, vectors.device))
        if self.weights is None:
            return losses.mean()
        weights = torch.tensor([self.weights[target] for target in picked], device=vectors.device)
        return (losses * weights).sum() / weights.sum()

    def update(self, loss: float, rows: Sequence[int]) -> None:
        """Take an optimizer step. A loss that is NaN or infinite ends the job with ``failure``."""
        if not math.isfinite(loss):
            self.failure = self._diverged(self.step + 1, f"loss {loss}")
            return
        self.lr = (self.recipe.lr or 0.0) * linear_schedule(self.step, self.num_steps, self.recipe.warmup)
        self.optimizer.step(self.lr)
        self.step += 1
        self.loss_sum += loss
        self.num_tokens += sum(len(self.train.ids[row]) for row in rows)

    def _diverged(self, step: int, sign: str) -> RecipeError:
        return RecipeError(
            f"training {self.name!r} diverged at step {step} of {self.num_steps} ({sign}). "
            f"Lower the learning rate, which is {self.recipe.lr}"
        )

    def record(self, score: float) -> bool:
        """Record the validation score of an epoch, and keep the parameters if it is the best so far.

        Parameters that are NaN or infinite end the job with ``failure``; the loss is computed before the last step and
        cannot show it.

        Returns:
            Whether it is the best so far.
        """
        if not torch.isfinite(self.optimizer.flat).all():
            self.failure = self._diverged(self.step, "its parameters are not finite")
            return False
        self.history.append({"epoch": self.epoch, "score": score, "loss": self.loss_sum / self.steps_an_epoch})
        self.loss_sum = 0.0
        is_best = score > self.best_score
        if is_best:
            self.best_score, self.best_epoch = score, self.epoch
            self.best.copy_(self.optimizer.flat)
        return is_best

    @torch.no_grad()
    def restore_best(self) -> None:
        """Restore the best epoch's parameters."""
        self.optimizer.flat.copy_(self.best)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The state for a checkpoint: tensors, and JSON values."""
        progress = {name: getattr(self, name) for name in _PROGRESS}
        progress["best_score"] = self.best_score if self.history else None
        return {**self.optimizer.state(), "best": self.best}, progress

    def load(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.optimizer.load(tensors)
        self.best.copy_(tensors["best"])
        for name in _PROGRESS:
            setattr(self, name, progress[name])
        self.best_score = -math.inf if progress["best_score"] is None else progress["best_score"]


_PROGRESS = ("step", "best_epoch", "history", "loss_sum", "num_tokens", "seconds", "padding_sum", "num_grouped")


def check_type(value: object, kind: type, error: type[PolytaskError]) -> None:
    """Refuse a value of another type, in one line that describes it and says how to make the right one.

    Raises:
        error: with the columns, if the value is a table.
    """
    if isinstance(value, kind):
        return
    names: Any = getattr(value, "columns", getattr(value, "column_names", None))
    has_names = isinstance(names, Iterable) and not isinstance(names, str | Mapping)
    shown = f"with the columns {', '.join(map(repr, names))}" if has_names else " ".join(repr(value).split())
    named = "" if shown.startswith(type(value).__name__) else f"{type(value).__name__} "
    raise error(f"{named}{shown:.120} is not a {kind.__name__}{_MADE_BY.get(kind, '')}")


@contextmanager
def attached_to(backbone: Backbone, jobs: Sequence[Job]) -> Iterator[Attached]:
    """Attach the deltas of these jobs to the backbone within the block."""
    attached = Attached.of(backbone)
    for job in jobs:
        if job.live.deltas:
            attached.add(job.name, job.live.deltas)
    try:
        yield attached
    finally:
        with backbone.one_pass(training=False):
            for name in list(attached.names):
                attached.remove(name)


def check_memory(backbone: Backbone, method: Method) -> None:
    """Refuse a method whose parameters and optimizer state do not fit into the free memory, before allocating them.

    Raises:
        RecipeError: with the memory that is needed and free.
    """
    count, free = num_trained(backbone, method), free_bytes(backbone.device)
    needed = COPIES * count * torch.promote_types(backbone.dtype, torch.float32).itemsize
    if needed > free:
        raise RecipeError(
            f"{method.name!r} would train {count:,} parameters, which takes {needed / 1e9:,.1f} GB of memory with the "
            f"optimizer's state, and {free / 1e9:,.1f} GB are free. Choose a smaller size or rank, or layers=2"
        )


def warn_if_too_long(max_length: int, backbone: Backbone) -> None:
    """Warn if a recipe asks for longer texts than the backbone reads, unless it is the default length."""
    if max_length > max(backbone.max_length, Recipe.max_length):
        warnings.warn(
            f"max_length={max_length} is more than {backbone.name} reads: "
            f"texts are cut at {backbone.max_length} tokens",
            PolytaskWarning,
            stacklevel=4,
        )


def warn_of_unknown_tokens(ids: Sequence[Sequence[int]], tokenizer: Any) -> None:
    """Warn if many tokens of the training texts are not in the tokenizer's vocabulary."""
    unknown = tokenizer.unk_token_id
    total = sum(map(len, ids))
    count = 0 if unknown is None else sum(list(text).count(unknown) for text in ids)
    if count > MAX_UNKNOWN * total:
        warnings.warn(
            f"{count / total:.0%} of the tokens of the training texts are unknown to the backbone's tokenizer. Are "
            "they in a language, script or case that it was not trained on?",
            PolytaskWarning,
            stacklevel=4,
        )


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
    targets = _targets(task.train)
    return [targets.count(label) for label in range(len(task.labels))]


def _targets(rows: Rows) -> Sequence[Target]:
    assert rows.targets is not None, "training rows have targets"
    return rows.targets
