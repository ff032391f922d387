"""``Job``: the training of one adapter: its rows, step, optimizer and best epoch; all that a checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter
from polytask.backbones.backbone import Backbone
from polytask.backbones.entry_point import FIRST, EntryPoint
from polytask.data.batches import epoch_batches
from polytask.data.encoding import Cut, Encodings
from polytask.data.task import Rows, Target, Task
from polytask.devices import on_device
from polytask.dropout import DropoutKey, Key, keep_mask
from polytask.errors import BackboneError, DataError, RecipeError
from polytask.evaluation.heads import Head, RegressionHead
from polytask.methods.delta import Delta
from polytask.training.averaging import Mixture, MovingAverage, check_mixture
from polytask.training.class_weights import class_weights, log_priors
from polytask.training.job_checks import check_memory, check_type, warn_if_too_long, warn_of_unknown_tokens
from polytask.training.optimizer import FlatAdam, linear_schedule
from polytask.training.recipe import Recipe
from polytask.training.start import Start

READ_EVERY = {"cpu": 1}
READ_EVERY_ELSEWHERE = 50
"""After how many steps losses are read, by device type: the host must not wait for a GPU in each step."""


class Job:
    """The training of one task with one recipe.

    Its randomness is a function of (seed, data, step, site), so it does not depend on jobs that train at the same time.

    Args:
        backbone: a frozen backbone.
        task: rows to train on and to validate with.
        recipe: how to train; settings that are None are chosen here.
        name: the job's name; by default the task's.
        encodings: encoded texts, shared by jobs of the same task.
        start: the adapters that it starts from. None: random weights.

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
        start: Start | None = None,
    ) -> None:
        check_type(backbone, Backbone, BackboneError)
        check_type(task, Task, DataError)
        check_type(recipe, Recipe, RecipeError)
        backbone.check_trainable()
        self.name = name or task.name
        self.encodings = encodings or Encodings(backbone.tokenizer)
        self.max_length = min(recipe.max_length, backbone.max_length)
        recipe = recipe.fitted(task.kind, self.max_length, backbone.row.is_pre_norm)
        check_mixture(recipe.method, recipe.num_modules)
        check_memory(backbone, recipe)
        if start is not None:
            start.check_fits(backbone, recipe.method)
        warn_if_too_long(recipe.max_length, backbone)
        self.cut: Cut = (self.max_length, recipe.long, recipe.stride)
        self.train = self.encodings.of(task.train, *self.cut)
        self.validation = self.encodings.of(task.validation, *self.cut)
        warn_of_unknown_tokens(self.train.ids, backbone.tokenizer)
        self.task, self.recipe = task, recipe.resolved(len(self.train), task.kind)
        self.key: Key = (self.recipe.seed, task.digest)
        self.live = LoadedAdapter(backbone, recipe.method, task.kind, task.labels, key=self.key)
        self.origin = None if start is None else start.load_into(self.live)
        self.targets = self.live.head.training_targets(self.train, _targets(task.train))
        if isinstance(self.live.head, RegressionHead):
            self.live.head.standardise(self.targets)
        weighting = self.recipe.class_weights
        self.weights = class_weights(task) if weighting == "balanced" else None
        self.log_priors = log_priors(task).to(backbone.device) if weighting == "logit-adjusted" else None
        self.num_passes = 2 if self.recipe.rdrop else 1
        several = self.recipe.num_modules > 1
        self.mixture = Mixture(self.live.deltas, recipe.num_modules, self.num_passes, self.key) if several else None
        parameters = dict(self.live.tree.named_parameters())
        if self.mixture is not None:
            parameters |= dict(self.mixture.parameters())
        self.begin(parameters, -(-len(self.train) // self.recipe.batch_size))

    def begin(self, parameters: Mapping[str, nn.Parameter], steps_an_epoch: int) -> None:
        """Make the optimizer of these parameters and set all progress to that of a training that has not begun."""
        self.optimizer = FlatAdam(
            parameters,
            weight_decay=self.recipe.weight_decay,
            clip=self.recipe.clip,
            epsilon=self.recipe.epsilon,
            bias_correction=self.recipe.bias_correction,
        )
        self.steps_an_epoch = steps_an_epoch
        self.num_epochs = self.recipe.epochs or 1
        self.num_steps = self.steps_an_epoch * self.num_epochs
        self.step, self.lr = 0, 0.0
        self.best_score, self.best_epoch = -math.inf, 0
        self.best: Tensor = self.optimizer.flat.clone()
        self.average = MovingAverage(self.optimizer.flat, self.recipe.ema) if self.recipe.ema else None
        self.history: list[dict[str, float]] = []
        self.num_tokens, self.seconds, self.loss_sum, self.last_loss = 0, 0.0, 0.0, math.nan
        self._unread: list[Tensor] = []
        self.padding_sum, self.num_grouped, self.is_grouped = 0.0, 0, False
        self.failure: RecipeError | None = None
        self._plan: tuple[int, list[list[int]]] = (-1, [])

    @property
    def parts(self) -> Sequence[Job]:
        """The jobs whose validation rows score it: itself, unless it trains on several tasks."""
        return [self]

    @property
    def digest(self) -> str:
        """SHA-256 of its data."""
        return self.task.digest

    @property
    def metric(self) -> str:
        """The name of the metric that chooses the best epoch."""
        return self.task.metric

    @property
    def head(self) -> Head:
        """The head of the next step."""
        return self.live.head

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
        return self.num_passes * self.recipe.batch_size * max(self.train.lengths)

    @property
    def next_shape(self) -> tuple[int, int]:
        """The number of rows of the next step, and the tokens of the longest."""
        rows = self.next_rows()
        return len(rows), max(len(self.train.ids[row]) for row in rows)

    def next_rows(self) -> list[int]:
        """The training rows of the next step, once for each pass."""
        epoch, at = divmod(self.step, self.steps_an_epoch)
        if self._plan[0] != epoch:
            plan = epoch_batches(self.train.lengths, self.recipe.batch_size, epoch, *self.key, "shuffle")
            self._plan = (epoch, plan)
        return self._plan[1][at] * self.num_passes

    @property
    def attachments(self) -> dict[str, Mapping[str, Delta]]:
        """The deltas to attach, by their name in routes: one set, or one for each pass of a mixture."""
        own = {self.name: self.live.deltas} if self.live.deltas else {}
        others = () if self.mixture is None else self.mixture.other_passes
        return {**own, **{f"{self.name}, pass {number}": deltas for number, deltas in enumerate(others, start=2)}}

    def routes(self, num_rows: int) -> list[str | None]:
        """The name in a route of each row of the next step, whose modules are chosen here if there are several."""
        if self.mixture is not None:
            self.mixture.choose(self.step)
        names: list[str | None] = [*self.attachments] or [None]
        return [name for name in names for _ in range(num_rows // len(names))]

    def dropout_key(self, first: int, rows: Sequence[int]) -> DropoutKey:
        """The dropout key of the job's rows in a batch, where they begin at row ``first``."""
        lengths = tuple(len(self.train.ids[row]) for row in rows)
        own = slice(first, first + len(rows))
        return DropoutKey(own, (*self.key, self.step), lengths, self.recipe.backbone_dropout)

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
        targets = head.targets(picked, vectors.device)
        losses = head.losses(outputs, targets)
        if self.num_passes > 1:
            first, second = outputs.chunk(2)
            losses = losses + self.recipe.rdrop * head.divergences(first, second, targets[: len(first)]).repeat(2)
        if self.weights is None:
            return losses.mean()
        weights = on_device(torch.tensor([self.weights[target] for target in picked]), vectors.device)
        return (losses * weights).sum() / weights.sum()

    def update(self, loss: Tensor, rows: Sequence[int]) -> None:
        """Take an optimizer step. A loss that is NaN or infinite ends the job with ``failure``, once it is read."""
        self._unread.append(loss.detach())
        if self.step == 0 or len(self._unread) >= READ_EVERY.get(loss.device.type, READ_EVERY_ELSEWHERE):
            self._read_losses(self.step + 1)
        if self.failure is not None:
            return
        self.lr = (self.recipe.lr or 0.0) * linear_schedule(self.step, self.num_steps, self.recipe.warmup)
        self.optimizer.step(self.lr)
        self.step += 1
        if self.average is not None:
            self.average.update(self.optimizer.flat, self.step)
        self.num_tokens += sum(len(self.train.ids[row]) for row in rows)
        if self.ends_epoch:
            self._read_losses(self.step)

    def _read_losses(self, last_step: int) -> None:
        """Read the losses of the steps up to ``last_step``. The host waits for the device."""
        if not self._unread:
            return
        losses: list[float] = torch.stack(self._unread).tolist()
        self._unread.clear()
        self.last_loss = losses[-1]
        odd = [number for number, loss in enumerate(losses, last_step - len(losses) + 1) if not math.isfinite(loss)]
        if odd:
            self.failure = self._diverged(odd[0], f"loss {losses[odd[0] - last_step - 1]}")
        else:
            self.loss_sum += sum(losses)

    def _diverged(self, step: int, sign: str) -> RecipeError:
        return RecipeError(
            f"training {self.name!r} diverged at step {step} of {self.num_steps} ({sign}). "
            f"Lower the learning rate, which is {self.recipe.lr}"
        )

    def record(self, score: float) -> bool:
        """Record the validation score of an epoch, and keep the parameters if it is the best so far, or the last.

        Parameters that are NaN or infinite end the job with ``failure``; the loss is computed before the last step and
        cannot show it.

        Returns:
            Whether the parameters were kept.
        """
        if not torch.isfinite(self.optimizer.flat).all():
            self.failure = self._diverged(self.step, "its parameters are not finite")
            return False
        self.history.append({"epoch": self.epoch, "score": score, "loss": self.loss_sum / self.steps_an_epoch})
        self.loss_sum = 0.0
        is_kept = score > self.best_score or self.recipe.keep_epoch == "last"
        if is_kept:
            self.best_score, self.best_epoch = score, self.epoch
            with self.averaged():
                self.best.copy_(self.optimizer.flat)
        return is_kept

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block, the weights are the averages over steps and modules: what is validated and kept."""
        if self.average is None and self.mixture is None:
            yield
            return
        flat = self.optimizer.flat
        own = flat.clone()
        try:
            if self.average is not None:
                flat.copy_(self.average.mean)
            if self.mixture is not None:
                self.mixture.merge()
            yield
        finally:
            flat.copy_(own)

    @torch.no_grad()
    def restore_best(self) -> None:
        """Restore the best epoch's parameters."""
        self.optimizer.flat.copy_(self.best)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The state for a checkpoint: tensors, and JSON values."""
        self._read_losses(self.step)
        progress = {name: getattr(self, name) for name in _PROGRESS}
        progress["best_score"] = self.best_score if self.history else None
        average = {} if self.average is None else {"average": self.average.mean}
        return {**self.optimizer.state(), "best": self.best, **average}, progress

    def load(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.optimizer.load(tensors)
        self.best.copy_(tensors["best"])
        if self.average is not None:
            self.average.mean.copy_(tensors["average"])
        for name in _PROGRESS:
            setattr(self, name, progress[name])
        self.best_score = -math.inf if progress["best_score"] is None else progress["best_score"]


_PROGRESS = ("step", "best_epoch", "history", "loss_sum", "num_tokens", "seconds", "padding_sum", "num_grouped")


@contextmanager
def attached_to(backbone: Backbone, jobs: Sequence[Job]) -> Iterator[Attached]:
    """Attach the deltas of these jobs to the backbone within the block."""
    attached = Attached.of(backbone)
    for job in jobs:
        for name, deltas in job.attachments.items():
            attached.add(name, deltas)
    try:
        yield attached
    finally:
        with backbone.one_pass(training=False):
            for name in list(attached.names):
                attached.remove(name)


def _targets(rows: Rows) -> Sequence[Target]:
    assert rows.targets is not None, "training rows have targets"
    return rows.targets
