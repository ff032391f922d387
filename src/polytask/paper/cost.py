"""What an edition would cost, and what of it fits a budget.

Tokens follow from the lengths of some of each task's texts. Seconds follow from a short calibration: a few steps of
each method on the backbone as it is here, and a pass over some texts, several times, all methods in turns. The median
is taken, because a process beside this one makes single measurements several times too long. Trials that are
done correct it. Nothing is kept of it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
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

LOOKED_AT = 512
"""Texts of a task whose lengths stand for all."""

STEPS = 5
"""Each timed by itself, answers in turns with them."""

TOGETHER = 4
"""Trials whose steps are timed together, as they train together."""

FEWEST = 5
"""So many trials that are done tell how long the others take."""


@dataclass(frozen=True)
class _Counts:
    """Mean length of a training row in tokens, all its windows counted; rows of each split (the further test rows
    among them); labels."""

    length: float
    train: int
    validation: int
    test: int
    labels: int


@dataclass
class Costs:
    """Tokens and seconds of trials; what was measured once is kept while this lives.

    ``jobs``: how many trials of a pack train together.
    """

    backbone: Backbone
    data: str | None
    jobs: int = TOGETHER
    _seen: dict[Any, _Counts] = field(default_factory=dict)
    _speeds: dict[Any, tuple[list[float], list[float]]] = field(default_factory=dict)

    def tokens(self, trial: Trial) -> int:
        """Of all epochs, without padding; 0 where words are only counted."""
        if not trial.has_backbone:
            return 0
        counts = self._counts(trial)
        return round(counts.length * counts.train * int(trial.recipe["epochs"]))

    def seconds(self, trial: Trial, share: float = 0.5) -> float:
        """Of training, validation after every epoch, the test, and what is measured besides.

        ``share`` of the measurements were quicker: 0.5 is the median.
        """
        counts = self._counts(trial)
        train_s, answer_s = (_quantile(taken, share) for taken in self._speed(trial))
        if not trial.has_backbone:
            return train_s * counts.train * counts.labels
        layers = self.backbone.num_layers
        passes = 1 + (layers * (layers + 1) // 2 + 1 if ABLATION in trial.measures else 0)
        answered = counts.length * (counts.test * passes + counts.validation * (int(trial.recipe["epochs"]) + 1))
        return self.tokens(trial) * train_s + answered * answer_s

    def measure(self, trials: Iterable[Trial]) -> None:
        """Time what these trials need and was not timed before: all methods in turns, so that all meet the same."""
        new = {key: trial for trial in trials if (key := _kind(trial)) not in self._speeds}
        runs = {key: self._prepared(trial) for key, trial in new.items() if trial.has_backbone}
        for key, trial in new.items():
            if not trial.has_backbone:
                words = _words_seconds(trial, loaded(rows_of(trial), self.data).task)
                self._speeds[key] = ([words], [0.0])
        taken: dict[Any, list[tuple[float, float]]] = {key: [] for key in runs}
        for _ in range(STEPS):
            for key, jobs in runs.items():
                taken[key].append(self._timed(jobs))
        for key, own in taken.items():
            training, answering = zip(*own)
            self._speeds[key] = (sorted(training), sorted(answering))

    def _counts(self, trial: Trial) -> _Counts:
        key = (rows_of(trial), trial.recipe.get("max_length"))
        if key not in self._seen:
            own = loaded(rows_of(trial), self.data)
            task, length = own.task, 0.0
            if trial.has_backbone:
                some = task.train.take(drawn(len(task.train), LOOKED_AT))
                most = min(trial.recipe["max_length"], self.backbone.max_length)
                cut = (most, trial.recipe["long"], trial.recipe["stride"])
                length = sum(encode(self.backbone.tokenizer, some, *cut).lengths) / len(some)
            num_test = sum(len(rows) for rows in (task.test or Rows([]), *own.also.values()))
            self._seen[key] = _Counts(length, len(task.train), len(task.validation), num_test, len(task.labels))
        return self._seen[key]

    def _speed(self, trial: Trial) -> tuple[list[float], list[float]]:
        """Seconds for a token trained on, and for one answered; of counted words, for a row and label, and 0."""
        self.measure([trial])
        return self._speeds[_kind(trial)]

    def _prepared(self, trial: Trial) -> list[Job]:
        """Jobs that train together as those of a pack, warmed up."""
        task, recipe = loaded(rows_of(trial), self.data).task, Recipe.from_json(trial.recipe)
        some = _varied(task.train, (STEPS + 1) * recipe.batch_size)
        small = replace(task, train=some, validation=some.take(range(min(len(some), recipe.batch_size))))
        together = 1 if isinstance(recipe.method, Replacement) else min(self.jobs, TOGETHER)
        recipes = [replace(recipe, epochs=STEPS + 1, seed=seed) for seed in range(together)]
        jobs = [Job(self.backbone, small, own, f"job {own.seed}") for own in recipes]
        with attached_to(self.backbone, jobs) as attached:
            step(self.backbone, attached, jobs)
        return jobs

    def _timed(self, jobs: list[Job]) -> tuple[float, float]:
        """Seconds a token of one step, and of one pass over validation rows."""
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


def _varied(rows: Rows, limit: int) -> Rows:
    """So many rows with at least two different targets, as a task must have; rows where nothing differs stay alike."""
    targets, chosen = rows.targets or (), drawn(len(rows), limit)
    if len({targets[row] for row in chosen}) == 1:
        others = (row for row, target in enumerate(targets) if target != targets[chosen[0]])
        chosen[-1] = next(others, chosen[-1])
    return rows.take(chosen)


def _kind(trial: Trial) -> tuple[Any, ...]:
    """Trials of a kind take equally long for a token."""
    return (trial.method["name"], trial.method.get("n"), trial.suite)


def _quantile(taken: list[float], share: float) -> float:
    """Of sorted values."""
    return taken[round(share * (len(taken) - 1))]


def correction(costs: Costs, entries: Iterable[Entry]) -> tuple[float, int]:
    """How many times as long trials took as they would be said to take, in the median, and how many those are.

    1 where there are few.
    """
    done = [entry for entry in entries if entry.trial.has_backbone and entry.seconds > 0]
    ratios = [entry.seconds / costs.seconds(entry.trial) for entry in done]
    return (statistics.median(ratios), len(ratios)) if len(ratios) >= FEWEST else (1.0, len(ratios))


def _words_seconds(trial: Trial, task: Task) -> float:
    """Of a trial, for each training row and label."""
    started = time.perf_counter()
    measurements.word_answers(trial.method, task)
    return (time.perf_counter() - started) / (len(task.train) * len(task.labels))


def fitted(edition: Edition, seconds: Mapping[str, float], budget_s: float) -> Edition:
    """The largest of ever smaller editions that fits a budget, or the smallest where none does.

    Cut are seeds, then settings of every method, then points of the figures, then tasks, the dearest first.

    Args:
        edition: what was asked for.
        seconds: of each of its trials that is still to be run, by its ``identity``.
        budget_s: in which it should be run.
    """

    def needed(one: Edition) -> float:
        return sum(seconds.get(identity(trial), 0.0) for trial in all_trials(one))

    if needed(edition) <= budget_s:
        return edition
    for smaller in [*cuts(edition)]:
        edition = smaller
        if needed(edition) <= budget_s:
            return edition
    while needed(edition) > budget_s:
        tasks = {task for plan in edition.plans for task in plan.tasks}
        if len(tasks) == 1:
            return edition
        edition = without_task(edition, max(sorted(tasks), key=_of_task(edition, seconds)))
    return edition


def _of_task(edition: Edition, seconds: Mapping[str, float]) -> Callable[[str], float]:
    """What the trials of a task cost."""
    sums: dict[str, float] = {}
    for trial in all_trials(edition):
        sums[trial.task] = sums.get(trial.task, 0.0) + seconds.get(identity(trial), 0.0)
    return lambda task: sums.get(task, 0.0)
