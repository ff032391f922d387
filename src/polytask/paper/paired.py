"""Two methods compared task by task and seed by seed, on what both of them have finished.

A seed of a task is finished for a method when all its planned settings have run with that seed. Only seeds that are
finished for both methods count, so a method is never compared on half of its trials. On these seeds validation chooses
a setting for each method, as everywhere, and test scores are compared with equal seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import numpy as np
from scipy import stats

from polytask.evaluation.significance import LEVEL, percentile_interval
from polytask.paper.edition import Edition, identity, trials
from polytask.paper.ledger import Entry, Suite
from polytask.paper.selection import Setting, choose, family, settings
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
        chosen: the setting of each method.
    """

    task: str
    suite: Suite
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    num_seeds: int
    chosen: tuple[Setting, Setting]

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
    """The compared trials of an edition, planned and finished."""

    def __init__(self, edition: Edition, entries: Iterable[Entry]) -> None:
        self.done = {identity(entry.trial): entry for entry in entries}
        self.suites: dict[str, Suite] = {}
        self._planned: dict[tuple[str, str], dict[int, list[str]]] = {}
        compared = [plan.exhibit for plan in edition.plans if plan.exhibit in COMPARED]
        for trial in (trial for exhibit in compared for trial in trials(edition, exhibit)):
            self.suites[trial.task] = trial.suite
            of_seed = self._planned.setdefault((trial.task, family(trial.method)), {})
            of_seed.setdefault(trial.seed, []).append(identity(trial))

    def planned(self, task: str, method: str) -> dict[int, list[str]]:
        """The trials of a method on a task, by their seeds; empty if there are none."""
        return self._planned.get((task, method), {})

    def tasks(self, suites: Sequence[Suite], *methods: str) -> list[str]:
        """The tasks of these suites for which all these methods are planned."""
        own = [task for task, suite in self.suites.items() if suite in suites]
        return [task for task in own if all(self.planned(task, method) for method in methods)]

    def finished_seeds(self, task: str, method: str) -> set[int]:
        """The seeds with which all settings of a method on a task have run."""
        of_seed = self.planned(task, method)
        return {seed for seed, names in of_seed.items() if all(name in self.done for name in names)}

    def progress(self, task: str, method: str) -> tuple[int, int]:
        """How many trials of a method on a task have run, and how many are planned."""
        names = [name for own in self.planned(task, method).values() for name in own]
        return sum(name in self.done for name in names), len(names)

    def difference(self, task: str, ours: str, theirs: str) -> TaskDifference | None:
        """Two methods on a task; None if they have no finished seed in common, or all runs of one diverged."""
        seeds = self.finished_seeds(task, ours) & self.finished_seeds(task, theirs)
        first, second = (choose(self._settings(task, method, seeds)) for method in (ours, theirs))
        if first is None or second is None:
            return None
        chosen = (first.setting, second.setting)
        one, other = (tuple(100 * _score(entry) for entry in setting.entries) for setting in chosen)
        return TaskDifference(task, self.suites[task], one, other, len(self.planned(task, ours)), chosen)

    def _settings(self, task: str, method: str, seeds: set[int]) -> list[Setting]:
        """Of these seeds; in the order of the entries, so that equal validation scores are decided as in the tables."""
        wanted = {name for seed, own in self.planned(task, method).items() if seed in seeds for name in own}
        return settings(entry for name, entry in self.done.items() if name in wanted)


@dataclass(frozen=True)
class PairedComparison:
    """Two methods over tasks: those that can be compared, and the others."""

    differences: tuple[TaskDifference, ...]
    unfinished: tuple[str, ...]

    @classmethod
    def of(cls, pairing: Pairing, suites: Sequence[Suite], ours: str, theirs: str) -> PairedComparison:
        """Compare two methods on all the tasks of these suites that both are planned for."""
        found = {task: pairing.difference(task, ours, theirs) for task in pairing.tasks(suites, ours, theirs)}
        compared = tuple(difference for difference in found.values() if difference)
        return cls(compared, tuple(task for task, difference in found.items() if difference is None))

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


def _score(entry: Entry) -> float:
    """The test score, with further test rows counted alike (MNLI's matched and mismatched rows are one task)."""
    assert entry.test is not None, "a chosen setting has a score"
    return fmean(score.score for score in (entry.test, *entry.also.values()))
