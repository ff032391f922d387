"""What trials cost.

Tokens are estimated from the lengths of some texts of each task. Seconds are estimated by a short calibration: a few
steps of each method on the backbone as it is here, and a pass over some texts (``launch.step_times``). Finished trials
correct it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from polytask.backbones.backbone import Backbone
from polytask.data.encoding import encode
from polytask.data.task import Rows
from polytask.launch.pace import MIN_FINISHED
from polytask.launch.step_times import jobs_to_time, step_times
from polytask.methods import Replacement
from polytask.paper import measurements
from polytask.paper.ledger import ABLATION, Entry, Trial
from polytask.paper.worker import loaded, rows_of
from polytask.suites.tasks import drawn
from polytask.training.recipe import Recipe

SAMPLED_TEXTS = 512
"""Texts of a task whose lengths stand for all."""

FUSED_JOBS = 4
"""The most trials whose steps are timed together, as they train together."""


@dataclass(frozen=True)
class _Counts:
    """Mean tokens of a training row (all windows), numbers of rows (further test rows included) and of labels."""

    length: float
    train: int
    validation: int
    test: int
    labels: int


@dataclass
class Costs:
    """Tokens and seconds of trials. Every measurement is made once.

    Attributes:
        jobs: how many trials of a pack train together.
    """

    backbone: Backbone
    data: str | None
    jobs: int = FUSED_JOBS
    _known: dict[Any, _Counts] = field(default_factory=dict)
    _speeds: dict[Any, tuple[list[float], list[float]]] = field(default_factory=dict)

    def tokens(self, trial: Trial) -> int:
        """Tokens of all epochs, without padding; 0 for TF-IDF."""
        if not trial.has_backbone:
            return 0
        counts = self._counts(trial)
        return round(counts.length * counts.train * int(trial.recipe["epochs"]))

    def seconds(self, trial: Trial, share: float = 0.5) -> float:
        """Seconds of training, validation, the test, and further measurements.

        Args:
            trial: the trial.
            share: of the measured times that were shorter: 0.5 is the median.
        """
        if not trial.has_backbone:
            return self.training_seconds(trial, share)
        counts, layers = self._counts(trial), self.backbone.num_layers
        passes = 1 + (layers * (layers + 1) // 2 + 1 if ABLATION in trial.measures else 0)
        answered = counts.length * (counts.test * passes + counts.validation)
        return self.training_seconds(trial, share) + answered * self._speed(trial, share)[1]

    def training_seconds(self, trial: Trial, share: float = 0.5) -> float:
        """Seconds of training and of validation after every epoch, which an entry records."""
        counts, (train_s, answer_s) = self._counts(trial), self._speed(trial, share)
        if not trial.has_backbone:
            return train_s * counts.train * counts.labels
        validated = counts.length * counts.validation * int(trial.recipe["epochs"])
        return self.tokens(trial) * train_s + validated * answer_s

    def measure(self, trials: Iterable[Trial]) -> None:
        """Time what these trials need and was not timed before, all methods in turns.

        Measured are seconds per token trained on and per token answered; for TF-IDF, per training row and label.
        """
        new = {kind: trial for trial in trials if (kind := _kind(trial)) not in self._speeds}
        groups = {kind: self._jobs(trial) for kind, trial in new.items() if trial.has_backbone}
        words = {kind: self._words_seconds(trial) for kind, trial in new.items() if not trial.has_backbone}
        self._speeds.update({kind: ([seconds], [0.0]) for kind, seconds in words.items()})
        self._speeds.update(step_times(self.backbone, groups))

    def _speed(self, trial: Trial, share: float) -> tuple[float, float]:
        """Seconds per token of training and of answering."""
        self.measure([trial])
        train_s, answer_s = (taken[round(share * (len(taken) - 1))] for taken in self._speeds[_kind(trial)])
        return train_s, answer_s

    def _counts(self, trial: Trial) -> _Counts:
        key = (rows_of(trial), trial.recipe.get("max_length"))
        if key not in self._known:
            own = loaded(rows_of(trial), self.data)
            task, length = own.task, 0.0
            if trial.has_backbone:
                some = task.train.take(drawn(len(task.train), SAMPLED_TEXTS))
                most = min(trial.recipe["max_length"], self.backbone.max_length)
                cut = (most, trial.recipe["long"], trial.recipe["stride"])
                length = sum(encode(self.backbone.tokenizer, some, *cut).lengths) / len(some)
            num_test = sum(len(rows) for rows in (task.test or Rows([]), *own.also.values()))
            self._known[key] = _Counts(length, len(task.train), len(task.validation), num_test, len(task.labels))
        return self._known[key]

    def _jobs(self, trial: Trial) -> list[Any]:
        """Jobs that train together like those of a pack."""
        recipe = Recipe.from_json(trial.recipe)
        num_jobs = 1 if isinstance(recipe.method, Replacement) else min(self.jobs, FUSED_JOBS)
        return jobs_to_time(self.backbone, loaded(rows_of(trial), self.data).task, recipe, num_jobs)

    def _words_seconds(self, trial: Trial) -> float:
        """Seconds of TF-IDF per training row and label."""
        task, started = loaded(rows_of(trial), self.data).task, time.perf_counter()
        measurements.word_answers(trial.method, task)
        return (time.perf_counter() - started) / (len(task.train) * len(task.labels))


def method_kind(trial: Trial) -> tuple[str, int | None]:
    """Trials of one kind take about equally long per token."""
    return trial.method["name"], trial.method.get("n")


def _kind(trial: Trial) -> tuple[Any, ...]:
    return (*method_kind(trial), trial.suite)


def correction(costs: Costs, entries: Iterable[Entry]) -> tuple[float, int]:
    """The median ratio of the time that finished trials took to the estimate, and the number of these trials.

    The ratio is 1 if there are fewer than five.
    """
    done = [entry for entry in entries if entry.trial.has_backbone and entry.seconds > 0]
    ratios = [entry.seconds / costs.training_seconds(entry.trial) for entry in done]
    return (statistics.median(ratios), len(ratios)) if len(ratios) >= MIN_FINISHED else (1.0, len(ratios))
