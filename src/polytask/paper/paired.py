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

import numpy as np
import pandas as pd
from scipy import stats

from polytask.evaluation.significance import LEVEL, percentile_interval
from polytask.paper.edition import Edition, identity, trials
from polytask.paper.ledger import Suite
from polytask.paper.selection import choose, family
from polytask.paper.wording import number_of

COMPARED = ("table1", "table2", "squad")
"""The plans whose trials are compared: those of the main tables and of SQuAD."""

RESAMPLES = 10_000
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
        if len(self.by_seed) < 2:
            return None
        reach = float(stats.sem(self.by_seed) * stats.t.ppf((1 + LEVEL) / 2, len(self.by_seed) - 1))
        return self.mean - reach, self.mean + reach


class Pairing:
    """The compared trials of an edition, planned and finished.

    Attributes:
        planned: a row for each trial: ``suite``, ``task``, ``method``, ``seed``, ``trial`` (its identity), ``is_done``.
        runs: the finished ones (``selection.runs_of``) with the same column ``trial``.
    """

    def __init__(self, edition: Edition, runs: pd.DataFrame) -> None:
        compared = [plan.exhibit for plan in edition.plans if plan.exhibit in COMPARED]
        planned = [trial for exhibit in compared for trial in trials(edition, exhibit)]
        rows = [(one.suite, one.task, family(one.method), one.seed, identity(one)) for one in planned]
        self.planned = pd.DataFrame(rows, columns=["suite", "task", "method", "seed", "trial"]).drop_duplicates()
        self.runs = runs.assign(trial=[identity(entry.trial) for entry in runs.entry])
        self.planned["is_done"] = self.planned.trial.isin(self.runs.trial)

    def progress(self, task: str, method: str) -> tuple[int, int]:
        """How many trials of a method on a task have run, and how many are planned."""
        is_done = self.planned.is_done[(self.planned.task == task) & (self.planned.method == method)]
        return int(is_done.sum()), len(is_done)

    def compare(self, ours: str, theirs: str, suites: Sequence[Suite]) -> PairedComparison:
        """Compare two methods on all the tasks of these suites that both are planned for."""
        planned = self.planned[self.planned.suite.isin(suites) & self.planned.method.isin((ours, theirs))]
        planned = planned[planned.groupby("task").method.transform("nunique") == 2]
        found = {task: self._difference(task, own, ours, theirs) for task, own in planned.groupby("task", sort=False)}
        compared = tuple(difference for difference in found.values() if difference)
        return PairedComparison(compared, tuple(task for task, difference in found.items() if difference is None))

    def _difference(self, task: str, planned: pd.DataFrame, ours: str, theirs: str) -> TaskDifference | None:
        """Two methods on a task; None if they have no finished seed in common, or all runs of one diverged."""
        of_seed = planned.groupby("seed")
        is_finished = of_seed.is_done.transform("all") & (of_seed.method.transform("nunique") == 2)
        chosen = choose(self.runs[self.runs.trial.isin(planned.trial[is_finished])], "method")
        if set(chosen.method) != {ours, theirs}:
            return None
        scores = chosen.assign(score=100 * chosen[["test", "mismatched"]].mean(axis=1))  # MNLI's rows are one task
        by_seed = scores.pivot(index="seed", columns="method", values="score")
        num_seeds = planned.seed[planned.method == ours].nunique()
        return TaskDifference(task, tuple(by_seed[ours]), tuple(by_seed[theirs]), num_seeds, chosen)


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
    def is_complete(self) -> bool:
        """Whether all tasks can be compared on all their seeds."""
        return not self.unfinished and all(len(own.by_seed) == own.num_seeds for own in self.differences)

    @property
    def finished_in_words(self) -> str:
        """``9 of 26 tasks, and of these 9 of 20 seeds``."""
        done, planned = (sum(counts) for counts in zip(*((len(d.by_seed), d.num_seeds) for d in self.differences)))
        return f"{len(self.differences)} of {number_of(self.num_tasks, 'task')}, and of these {done} of {planned} seeds"

    @property
    def mean(self) -> float:
        """The mean over tasks of their mean differences, in points."""
        return fmean(difference.mean for difference in self.differences)

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """The 95% bootstrap interval of the mean over tasks, and seeds within them; None for few tasks."""
        if len(self.differences) < MIN_TASKS:
            return None
        return bootstrap_interval([difference.by_seed for difference in self.differences])


def bootstrap_interval(differences: Sequence[Sequence[float]], resamples: int = RESAMPLES) -> tuple[float, float]:
    """The 95% interval of the mean over tasks of mean differences over seeds.

    A resample draws tasks with replacement, and for each of them its seeds with replacement.

    Args:
        differences: of each task, one for each seed.
        resamples: how many resamples.
    """
    draw = np.random.default_rng(0)
    counts = np.array([len(own) for own in differences])
    padded = np.array([[*own, *[0.0] * (counts.max() - len(own))] for own in differences])
    tasks_RT = draw.integers(len(counts), size=(resamples, len(counts)))
    counts_RT1 = counts[tasks_RT][..., None]
    seeds_RTS = (draw.random((*tasks_RT.shape, counts.max())) * counts_RT1).astype(int)
    drawn_RTS = np.where(np.arange(counts.max()) < counts_RT1, padded[tasks_RT[..., None], seeds_RTS], 0.0)
    return percentile_interval((drawn_RTS.sum(axis=2) / counts[tasks_RT]).mean(axis=1))
