"""Results of a sweep: its runs, grouped by setting and ranked."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from polytask.adapters.adapter import Adapter
from polytask.errors import RecipeError
from polytask.training.events import Event
from polytask.training.grid import SEED, varying
from polytask.training.recipe import Recipe
from polytask.training.result import Result


@dataclass(frozen=True)
class Run:
    """A recipe with all defaults chosen, and its outcome: a result, or why it diverged."""

    recipe: Recipe
    result: Result | None
    failure: str | None = None

    @property
    def key(self) -> str:
        """The recipe's key, which is the name of its job and of its files."""
        return self.recipe.key

    @property
    def status(self) -> Literal["finished", "diverged"]:
        """How the run ended."""
        return "diverged" if self.result is None else "finished"

    @property
    def score(self) -> float | None:
        """The score on the validation rows; None if the run diverged."""
        return None if self.result is None else self.result.validation.score


@dataclass(frozen=True)
class Kept:
    """A run is finished and stored, now or by an earlier sweep. ``job`` is its recipe's key."""

    job: str
    run: Run


Progress = Callable[[Event | Kept], None]


@dataclass(frozen=True)
class Setting:
    """Runs that differ in the seed only. ``values`` are those of the settings that vary within the sweep."""

    values: dict[str, Any]
    runs: tuple[Run, ...]

    @property
    def scores(self) -> list[float]:
        """The validation scores of the runs that did not diverge."""
        return [run.score for run in self.runs if run.score is not None]

    @property
    def mean(self) -> float | None:
        """The mean of the scores; None if all runs diverged."""
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def sem(self) -> float | None:
        """The standard error of the mean; None for fewer than two scores."""
        return statistics.stdev(self.scores) / len(self.scores) ** 0.5 if len(self.scores) > 1 else None

    @property
    def num_diverged(self) -> int:
        """The number of runs that diverged."""
        return len(self.runs) - len(self.scores)


@dataclass(frozen=True)
class Sweep:
    """The outcome of a sweep: settings by their mean score, best first; those with a diverged run come last."""

    metric: str
    settings: tuple[Setting, ...]
    adapter: Adapter | None

    @property
    def runs(self) -> list[Run]:
        """All runs, the best setting's first."""
        return [run for setting in self.settings for run in setting.runs]

    @property
    def best_run(self) -> Run:
        """The run with the highest validation score; among equal ones, that of the better setting.

        Raises:
            RecipeError: all runs diverged.
        """
        return best_run_of(self.runs)

    @property
    def best(self) -> Adapter:
        """The adapter of the best run.

        Raises:
            RecipeError: all runs diverged.
        """
        if self.adapter is None:
            raise all_diverged(self.runs)
        return self.adapter

    def table(self) -> list[dict[str, Any]]:
        """One row per setting: what varies, ``score`` (the mean), ``sem``, ``runs``, ``diverged``, ``parameters``."""
        return [
            {
                **setting.values,
                "score": setting.mean,
                "sem": setting.sem,
                "runs": len(setting.runs),
                "diverged": setting.num_diverged,
                "parameters": next((r.result.parameters["trained"] for r in setting.runs if r.result), None),
            }
            for setting in self.settings
        ]


def by_setting(runs: Sequence[Run]) -> tuple[Setting, ...]:
    """Runs grouped by setting, best mean first; settings with a diverged run come last."""
    names = varying([run.recipe for run in runs])
    groups: dict[str, list[Run]] = {}
    for run in runs:
        own = {name: value for name, value in run.recipe.settings().items() if name != SEED}
        groups.setdefault(json.dumps(own), []).append(run)
    found = []
    for group in groups.values():
        own = group[0].recipe.settings()
        found.append(Setting({name: own.get(name) for name in names}, tuple(group)))
    return tuple(sorted(found, key=_rank))


def _rank(setting: Setting) -> tuple[bool, float]:
    mean = setting.mean
    return setting.num_diverged > 0, float("inf") if mean is None else -mean


def best_run_of(runs: Sequence[Run]) -> Run:
    """The run with the highest validation score.

    Raises:
        RecipeError: every run diverged.
    """
    scored = [run for run in runs if run.score is not None]
    if not scored:
        raise all_diverged(runs)
    return max(scored, key=lambda run: run.score or 0.0)


def all_diverged(runs: Sequence[Run]) -> RecipeError:
    """The error of a sweep without a result."""
    return RecipeError(f"no run of the sweep has a result: all diverged. The first one: {runs[0].failure}")
