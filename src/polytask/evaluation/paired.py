"""Two methods compared task by task and seed by seed, on what both of them have finished.

A seed of a task is finished for a method when all its planned settings have run with that seed. Only seeds that are
finished for both methods count, so a method is never compared on half of its trials. On these seeds validation chooses
a setting for each method, as everywhere, and test scores are compared with equal seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import pandas as pd

from polytask.evaluation.model_selection import choose
from polytask.evaluation.significance import nested_bootstrap_interval, student_interval
from polytask.wording import counted, points_in_words

MIN_TASKS = 5
"""The fewest tasks of which a bootstrap interval is given."""


@dataclass(frozen=True)
class TaskDifference:
    """Test scores (× 100) of two methods on a task, one of each per seed.

    Attributes:
        ours: the first method's scores; ``theirs``: the second's, on the same seeds.
        num_seeds: that are planned.
        runs: of the setting of each method that validation chose.
    """

    task: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    num_seeds: int
    runs: pd.DataFrame

    @property
    def by_seed(self) -> list[float]:
        """The difference on each seed, in points."""
        return [one - other for one, other in zip(self.ours, self.theirs, strict=True)]

    @property
    def mean(self) -> float:
        """The mean difference, in points."""
        return fmean(self.by_seed)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's paired 95% interval over the seeds; None for one seed."""
        return student_interval(self.by_seed)


@dataclass(frozen=True)
class PairedComparison:
    """Two methods over tasks: those that can be compared, and the others."""

    differences: tuple[TaskDifference, ...]
    unfinished: tuple[str, ...]

    @property
    def num_tasks(self) -> int:
        """How many tasks both methods are planned for."""
        return len(self.differences) + len(self.unfinished)

    @property
    def num_seeds(self) -> tuple[int, int]:
        """How many seeds of the compared tasks are finished, and how many are planned."""
        return sum(len(own.by_seed) for own in self.differences), sum(own.num_seeds for own in self.differences)

    @property
    def is_complete(self) -> bool:
        """Whether all tasks can be compared on all their seeds."""
        return not self.unfinished and all(len(own.by_seed) == own.num_seeds for own in self.differences)

    @property
    def finished_in_words(self) -> str:
        """``9 of 26 tasks, and of these 9 of 20 seeds``."""
        done, planned = self.num_seeds
        return f"{len(self.differences)} of {counted(self.num_tasks, 'task')}, and of these {done} of {planned} seeds"

    @property
    def in_words(self) -> str:
        """``−1.30 points (95% interval −2.31 to −0.42), 9 tasks``."""
        return f"{points_in_words(self.mean, self.interval)}, {counted(len(self.differences), 'task')}"

    @property
    def mean(self) -> float:
        """The mean over tasks of their mean differences, in points."""
        return fmean(difference.mean for difference in self.differences)

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """The 95% bootstrap interval of the mean over tasks, and seeds within them; None for few tasks."""
        if len(self.differences) < MIN_TASKS:
            return None
        return nested_bootstrap_interval([difference.by_seed for difference in self.differences])


@dataclass(frozen=True)
class Pairing:
    """The trials that are compared, planned and finished.

    Attributes:
        planned: a row for each trial: ``suite``, ``task``, ``method``, ``seed`` and ``trial`` (what identifies it).
        runs: the finished ones, as ``model_selection`` takes them, with ``method``, ``trial`` and the test ``score``
            × 100.
    """

    planned: pd.DataFrame
    runs: pd.DataFrame

    @cached_property
    def is_done(self) -> pd.Series[bool]:
        """Whether each of the planned trials is finished."""
        return self.planned.trial.isin(self.runs.trial)

    def progress(self, task: str, method: str) -> tuple[int, int]:
        """How many trials of a method on a task have run, and how many are planned."""
        own = self.is_done[(self.planned.task == task) & (self.planned.method == method)]
        return int(own.sum()), len(own)

    def compare(self, ours: str, theirs: str, suites: Sequence[str]) -> PairedComparison:
        """Compare two methods on all the tasks of these suites that both are planned for."""
        planned = self.planned[self.planned.suite.isin(suites) & self.planned.method.isin((ours, theirs))]
        planned = planned[planned.groupby("task").method.transform("nunique") == 2]
        found = {task: self._difference(task, own, ours, theirs) for task, own in planned.groupby("task", sort=False)}
        compared = tuple(difference for difference in found.values() if difference)
        return PairedComparison(compared, tuple(task for task, difference in found.items() if difference is None))

    def _difference(self, task: str, planned: pd.DataFrame, ours: str, theirs: str) -> TaskDifference | None:
        """Two methods on a task; None if they have no finished seed in common, or all runs of one diverged."""
        is_whole = self.is_done.loc[planned.index].groupby(planned.seed).transform("all")
        is_finished = is_whole & (planned.groupby("seed").method.transform("nunique") == 2)
        chosen = choose(self.runs[self.runs.trial.isin(planned.trial[is_finished])], "method")
        if set(chosen.method) != {ours, theirs}:
            return None
        by_seed = chosen.pivot(index="seed", columns="method", values="score")
        num_seeds = planned.seed[planned.method == ours].nunique()
        return TaskDifference(task, tuple(by_seed[ours]), tuple(by_seed[theirs]), num_seeds, chosen)
