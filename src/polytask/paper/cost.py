"""What an edition costs, and the part of it that fits a budget.

Tokens are estimated from the lengths of some texts of each task. Seconds are estimated by a short calibration: a few
steps of each method on the backbone as it is here, and a pass over some texts, all methods in turns. The median counts,
because another process can make single measurements several times too long. Finished trials correct it.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from polytask.backbones.backbone import Backbone
from polytask.data.encoding import encode
from polytask.data.task import Rows, Task
from polytask.inference.scoring import scores_of
from polytask.methods import Replacement
from polytask.paper import measurements
from polytask.paper.edition import Edition, all_trials, cuts, identity, without_task
from polytask.paper.grids import ABLATION
from polytask.paper.ledger import Entry, Trial
from polytask.paper.suites import drawn
from polytask.paper.worker import loaded, rows_of
from polytask.training.job import Job, attached_to
from polytask.training.loop import step
from polytask.training.recipe import Recipe

SAMPLED_TEXTS = 512
"""Texts of a task whose lengths stand for all."""

STEPS = 5
"""Timed steps of each method."""

FUSED_JOBS = 4
"""The most trials whose steps are timed together, as they train together."""

MIN_FINISHED = 5
"""The fewest finished trials that correct the estimate."""


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

    def _speed(self, trial: Trial, share: float) -> tuple[float, float]:
        """Seconds per token of training and of answering."""
        self.measure([trial])
        train_s, answer_s = (taken[round(share * (len(taken) - 1))] for taken in self._speeds[_kind(trial)])
        return train_s, answer_s

    def measure(self, trials: Iterable[Trial]) -> None:
        """Time what these trials need and was not timed before, all methods in turns.

        Measured are seconds per token trained on and per token answered; for TF-IDF, per training row and label.
        """
        new = {key: trial for trial in trials if (key := _kind(trial)) not in self._speeds}
        runs = {key: self._prepared(trial) for key, trial in new.items() if trial.has_backbone}
        for key, trial in new.items():
            if not trial.has_backbone:
                words = _words_seconds(trial, loaded(rows_of(trial), self.data).task)
                self._speeds[key] = ([words], [0.0])
        taken = [{key: self._timed(jobs) for key, jobs in runs.items()} for _ in range(STEPS)]
        for key in runs:
            training, answering = zip(*(own[key] for own in taken))
            self._speeds[key] = (sorted(training), sorted(answering))

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

    def _prepared(self, trial: Trial) -> list[Job]:
        """Jobs that train together like those of a pack, warmed up."""
        task, recipe = loaded(rows_of(trial), self.data).task, Recipe.from_json(trial.recipe)
        some = _with_two_targets(task.train, (STEPS + 1) * recipe.batch_size)
        small = replace(task, train=some, validation=some.take(range(min(len(some), recipe.batch_size))))
        num_jobs = 1 if isinstance(recipe.method, Replacement) else min(self.jobs, FUSED_JOBS)
        recipes = [replace(recipe, epochs=STEPS + 1, seed=seed) for seed in range(num_jobs)]
        jobs = [Job(self.backbone, small, own, f"job {own.seed}") for own in recipes]
        with attached_to(self.backbone, jobs) as attached:
            step(self.backbone, attached, jobs)
        return jobs

    def _timed(self, jobs: list[Job]) -> tuple[float, float]:
        """Seconds per token of one step, and of one pass over validation rows."""
        job = jobs[0]
        with attached_to(self.backbone, jobs) as attached:
            before = sum(job.num_tokens for job in jobs)
            started = time.perf_counter()
            step(self.backbone, attached, jobs)
            training = (time.perf_counter() - started) / (sum(job.num_tokens for job in jobs) - before)
        with attached_to(self.backbone, [job]) as attached:
            started = time.perf_counter()
            names = [job.name] * job.validation.num_rows
            scores_of(self.backbone, attached, {job.name: job.live}, job.validation, names)
            answering = (time.perf_counter() - started) / sum(job.validation.lengths)
        return training, answering


def _with_two_targets(rows: Rows, limit: int) -> Rows:
    """At most so many rows, with at least two different targets if there are any, as a task must have."""
    targets, chosen = rows.targets or (), drawn(len(rows), limit)
    if len({targets[row] for row in chosen}) == 1:
        others = (row for row, target in enumerate(targets) if target != targets[chosen[0]])
        chosen[-1] = next(others, chosen[-1])
    return rows.take(chosen)


def _kind(trial: Trial) -> tuple[Any, ...]:
    """Trials of one kind take equally long per token."""
    return (trial.method["name"], trial.method.get("n"), trial.suite)


def correction(costs: Costs, entries: Iterable[Entry]) -> tuple[float, int]:
    """The median ratio of the time that finished trials took to the estimate, and the number of these trials.

    The ratio is 1 if there are fewer than five.
    """
    done = [entry for entry in entries if entry.trial.has_backbone and entry.seconds > 0]
    ratios = [entry.seconds / costs.training_seconds(entry.trial) for entry in done]
    return (statistics.median(ratios), len(ratios)) if len(ratios) >= MIN_FINISHED else (1.0, len(ratios))


def _words_seconds(trial: Trial, task: Task) -> float:
    """Seconds of TF-IDF per training row and label."""
    started = time.perf_counter()
    measurements.word_answers(trial.method, task)
    return (time.perf_counter() - started) / (len(task.train) * len(task.labels))


def fitted(edition: Edition, seconds: Mapping[str, float], budget_s: float) -> Edition:
    """The largest of ever smaller editions that fits a budget, or the smallest if none does.

    Cut are seeds first, then settings of every method, then points of the figures, then the most expensive tasks.

    Args:
        edition: what was asked for.
        seconds: of each of its trials that is still to be run, by its ``identity``.
        budget_s: the time there is.
    """

    def fits(one: Edition) -> bool:
        return sum(seconds.get(identity(trial), 0.0) for trial in all_trials(one)) <= budget_s

    if fits(edition):
        return edition
    for smaller in cuts(edition):
        if fits(smaller):
            return smaller
    *_, edition = (edition, *cuts(edition))
    while not fits(edition) and len(tasks := {task for plan in edition.plans for task in plan.tasks}) > 1:
        by_task: Counter[str] = Counter()
        for trial in all_trials(edition):
            by_task[trial.task] += seconds.get(identity(trial), 0.0)  # type: ignore[assignment]
        edition = without_task(edition, max(sorted(tasks), key=by_task.__getitem__))
    return edition
