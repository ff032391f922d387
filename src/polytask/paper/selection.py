"""From entries to numbers: validation chooses, test reports.

A setting is a recipe without its seed, on one task. Settings are compared by their mean validation score over the seeds
that all of them were run with, so that an unfinished setting does not win by one lucky seed. A setting with a diverged
seed is never chosen. No test score is read before the choice is made.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from polytask.errors import PolytaskError, UnknownName
from polytask.methods import Houlsby
from polytask.paper.ledger import Entry, Suite
from polytask.paper.suites import SUITES
from polytask.suites.glue import GLUE
from polytask.suites.text17 import TEXT17

ADAPTERS = "adapters"
FAMILIES: Mapping[str, str] = {
    "tfidf": "no BERT",
    "full": "full fine-tuning",
    "top": "top layers",
    "layernorm": "LayerNorms only",
    ADAPTERS: "adapters",
}
"""The methods that the paper compares, in words."""


class NothingToShow(PolytaskError):
    """The results do not suffice for an exhibit; the message says what is missing."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its standard error (None for one seed), the lowest and the highest value."""

    mean: float
    sem: float | None
    num_seeds: int
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """The estimate from one value or more."""
        sem = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
        return cls(statistics.fmean(values), sem, len(values), min(values), max(values))

    @property
    def percent(self) -> Estimate:
        """The same, times 100."""
        sem = None if self.sem is None else 100 * self.sem
        return replace(self, mean=100 * self.mean, sem=sem, low=100 * self.low, high=100 * self.high)


@dataclass(frozen=True)
class Setting:
    """The runs of one recipe on one task, one per seed."""

    suite: Suite
    task: str
    recipe: dict[str, Any]
    entries: tuple[Entry, ...]

    @property
    def method(self) -> dict[str, Any]:
        return dict(self.recipe["method"])

    @cached_property
    def family(self) -> str:
        return family(self.method)

    @property
    def size(self) -> int | None:
        """The bottleneck's size, or the number of top layers."""
        size: int | None = self.method.get("n" if self.family == "top" else "size")
        return size

    @property
    def num_diverged(self) -> int:
        """Runs without a score."""
        return sum(entry.validation is None or entry.test is None for entry in self.entries)

    @property
    def seeds(self) -> frozenset[int]:
        return frozenset(entry.trial.seed for entry in self.entries)

    @property
    def parameters(self) -> Mapping[str, int]:
        """Parameters ``trained`` below the head, of the ``head``, and of the ``backbone``; 0 without one."""
        return Counter(self.entries[0].parameters)

    @property
    def num_trained(self) -> int:
        """Parameters that the task adds, the head included."""
        return self.parameters["trained"] + self.parameters["head"]

    def validation(self, seeds: frozenset[int]) -> float:
        """The mean validation score over these of its seeds."""
        scores = [entry.validation for entry in self.entries if entry.trial.seed in seeds]
        return statistics.fmean(score.score for score in scores if score is not None)

    def test(self, name: str | None = None) -> Estimate | None:
        """The test score over seeds that did not diverge, on the task's rows or the further ones called ``name``."""
        scores = [entry.test if name is None else entry.also.get(name) for entry in self.entries]
        values = [score.score for score in scores if score is not None]
        return Estimate.of(values) if values else None

    def metric(self, name: str) -> Estimate | None:
        """Another metric of the same test rows."""
        values = [entry.metrics[name] for entry in self.entries if name in entry.metrics]
        return Estimate.of(values) if values else None


@dataclass(frozen=True)
class Choice:
    """The setting that validation chose out of ``num_settings``, with the number of all their runs."""

    setting: Setting
    num_settings: int
    num_runs: int
    num_diverged: int

    @property
    def score(self) -> Estimate:
        """The test score of the setting."""
        score = self.setting.test()
        assert score is not None, "a chosen setting has a score"
        return score


def family(method: Mapping[str, Any]) -> str:
    """``adapters`` for Houlsby's adapter of any size as in the paper, else one of ``FAMILIES`` or ``other``."""
    name = method["name"]
    if name != Houlsby.name:
        return name if name in FAMILIES else "other"
    defaults = {**Houlsby().settings(), "name": name, "size": None, "activation": None}
    given = {**method, "size": None, "activation": None}
    is_plain = method.get("activation", "gelu") in ("gelu", "gelu_tanh")
    return ADAPTERS if is_plain and all(defaults.get(key) == value for key, value in given.items()) else "other"


def settings(entries: Iterable[Entry]) -> list[Setting]:
    """The entries by task and recipe, tasks in the order of their suites and unknown tasks last."""
    found: dict[str, dict[int, Entry]] = defaultdict(dict)
    for entry in entries:
        what = {**vars(entry.trial), "recipe": without(entry.trial.recipe, "seed"), "edition": "", "measures": ()}
        runs = found[json.dumps(what, sort_keys=True)]
        if entry.trial.seed not in runs or entry.trial.measures:
            runs[entry.trial.seed] = entry
    by_seed = [[runs[seed] for seed in sorted(runs)] for runs in found.values()]
    trials = [runs[0].trial for runs in by_seed]
    made = [Setting(t.suite, t.task, without(t.recipe, "seed"), tuple(runs)) for t, runs in zip(trials, by_seed)]
    order = {task: at for at, task in enumerate((*GLUE, *TEXT17))}
    return sorted(made, key=lambda one: (SUITES.index(one.suite), order.get(one.task, len(order))))


def without(recipe: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The recipe without these of its own settings and its method's."""
    left = {name: value for name, value in recipe.items() if name not in names}
    return {**left, "method": {name: value for name, value in recipe["method"].items() if name not in names}}


def choose(candidates: Sequence[Setting]) -> Choice | None:
    """The best of one task's settings by validation; None if all diverged or there are none."""
    sound = [setting for setting in candidates if not setting.num_diverged]
    if not sound:
        return None
    shared = frozenset.intersection(*(setting.seeds for setting in sound))
    best = max(sound, key=lambda setting: setting.validation(shared or setting.seeds))
    num_runs = sum(len(setting.entries) for setting in candidates)
    return Choice(best, len(candidates), num_runs, sum(setting.num_diverged for setting in candidates))


def curve_point(setting: Setting, score: Estimate | None, mean: str) -> dict[str, Any]:
    """The mean (under the name ``mean``), the lowest and the highest score of a setting's seeds, in per cent."""
    names = {mean: "mean", "low": "low", "high": "high"}
    values = {name: getattr(score.percent, of) if score else None for name, of in names.items()}
    return {**values, "seeds": score.num_seeds if score else 0, "diverged": setting.num_diverged}


def sweep_of(found: Iterable[Setting], vary: str) -> dict[float, Setting]:
    """The settings of one task that differ in ``vary`` alone, by its value; empty if it has one value only.

    Of several such groups: the one with the most values, then the most runs, then the best validation score.
    """
    groups: dict[str, dict[float, Setting]] = defaultdict(dict)
    for setting in found:
        value = setting.recipe.get(vary, setting.method.get(vary))
        if value is not None:
            groups[json.dumps(without(setting.recipe, vary), sort_keys=True)][float(value)] = setting

    def rank(group: dict[float, Setting]) -> tuple[int, int, float]:
        sound = [setting.validation(setting.seeds) for setting in group.values() if not setting.num_diverged]
        return len(group), sum(len(setting.entries) for setting in group.values()), max(sound, default=-1.0)

    widest = max(groups.values(), key=rank, default={})
    return dict(sorted(widest.items())) if len(widest) > 1 else {}


def of_one_backbone(entries: Sequence[Entry], name: str | None = None) -> list[Entry]:
    """The entries of one backbone, and those without one: scores of two backbones do not stand in one table.

    Raises:
        UnknownName: there are none of this name.
        PolytaskError: there are several backbones and no name was given, or several by the same name.
    """
    names = Counter(entry.backbone["name"] for entry in entries if entry.backbone["name"] is not None)
    if name is not None and name not in names:
        raise UnknownName("backbone in these results", name, names)
    if name is None and len(names) > 1:
        there = ", ".join(f"{known} ({count} entries)" for known, count in names.most_common())
        raise PolytaskError(f"these results are of several backbones: {there}. Choose one with --backbone")
    kept = [entry for entry in entries if name is None or entry.backbone["name"] in (name, None)]
    prints = {entry.backbone["fingerprint"] for entry in kept if entry.backbone["name"] is not None}
    if len(prints) > 1:
        raise PolytaskError(
            f"these results are of {len(prints)} backbones by the name {next(iter(names))}, with different weights. "
            "Keep the results of each backbone in a folder of its own"
        )
    return kept


def on_one_data(entries: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """The entries on the rows that most entries of their task are on, and remarks on those left out.

    A sample of a task and the whole of it are different rows, whose scores are not compared.
    """
    counts: dict[str, Counter[tuple[Any, ...]]] = defaultdict(Counter)
    for entry in entries:
        counts[entry.trial.task][_rows(entry)] += 1
    usual = {task: own.most_common(1)[0][0] for task, own in counts.items()}
    left = Counter(entry.trial.task for entry in entries if _rows(entry) != usual[entry.trial.task])
    remarks = [f"{task}: {num} entries on other rows than the rest are left out" for task, num in left.items()]
    return [entry for entry in entries if _rows(entry) == usual[entry.trial.task]], remarks


def _rows(entry: Entry) -> tuple[Any, ...]:
    return (entry.trial.max_rows, entry.data.get("digest"))
