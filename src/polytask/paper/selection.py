"""From entries to numbers: validation chooses, test reports.

A setting is a recipe without its seed, on one task. Settings are compared by their mean validation score over the seeds
that all of them were run with, so that a setting which is half done is not preferred for one lucky seed. A setting of
which a seed diverged is never chosen. Nothing here reads a test score before the choice is made.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
"""The methods that the paper compares, by their names here."""


class NothingToShow(PolytaskError):
    """The ledger does not hold what an exhibit is drawn from; the message says what is missing."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its standard error (None for one seed)."""

    mean: float
    sem: float | None
    num_seeds: int
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Of one value or more."""
        sem = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
        return cls(statistics.fmean(values), sem, len(values), min(values), max(values))


@dataclass(frozen=True)
class Setting:
    """The runs of one recipe on one task, one a seed."""

    suite: Suite
    task: str
    recipe: dict[str, Any]
    entries: tuple[Entry, ...]

    @property
    def method(self) -> dict[str, Any]:
        """Name and settings."""
        return dict(self.recipe["method"])

    @cached_property
    def family(self) -> str:
        """One of ``FAMILIES``, or ``other``."""
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
        """Of its runs."""
        return frozenset(entry.trial.seed for entry in self.entries)

    @property
    def num_trained(self) -> int:
        """Parameters that the task adds, the head among them."""
        return self.num_trained_below + int(self.entries[0].parameters.get("head", 0))

    @property
    def num_trained_below(self) -> int:
        """Parameters that the task adds below its head."""
        return int(self.entries[0].parameters.get("trained", 0))

    def validation(self, seeds: frozenset[int]) -> float:
        """The mean score over these of its seeds."""
        scores = [entry.validation for entry in self.entries if entry.trial.seed in seeds]
        return statistics.fmean(score.score for score in scores if score is not None)

    def test(self, name: str | None = None) -> Estimate | None:
        """Over its seeds: of the task's own test rows, or of the further ones of this name; None where there is none.

        Diverged runs have none and do not count.
        """
        scores = [entry.test if name is None else entry.also.get(name) for entry in self.entries]
        values = [score.score for score in scores if score is not None]
        return Estimate.of(values) if values else None

    def metric(self, name: str) -> Estimate | None:
        """Another metric of the same test rows."""
        values = [entry.metrics[name] for entry in self.entries if name in entry.metrics]
        return Estimate.of(values) if values else None


@dataclass(frozen=True)
class Choice:
    """The setting that validation chose of so many, with the number of runs and of those that diverged."""

    setting: Setting
    num_settings: int
    num_runs: int
    num_diverged: int


def family(method: Mapping[str, Any]) -> str:
    """``adapters`` for Houlsby's module as the paper's tables have it, of any size; otherwise one of ``FAMILIES``.

    With another initialisation or activation, in some layers only, and so on, it is ``other``.
    """
    name = method["name"]
    if name == Houlsby.name:
        plain = {**Houlsby().settings(), "size": None, "activation": None}
        given = {**method, "size": None, "activation": None}
        is_plain = method.get("activation", "gelu") in ("gelu", "gelu_tanh")
        return ADAPTERS if is_plain and all(plain.get(k) == v for k, v in given.items() if k != "name") else "other"
    return name if name in FAMILIES else "other"


def settings(entries: Iterable[Entry]) -> list[Setting]:
    """The entries by task and recipe, tasks in the order of their suites."""
    found: dict[str, dict[int, Entry]] = defaultdict(dict)
    for entry in entries:
        what = {**vars(entry.trial), "recipe": without(entry.trial.recipe, "seed"), "edition": "", "measures": ()}
        runs = found[json.dumps(what, sort_keys=True)]
        if entry.trial.seed not in runs or entry.trial.measures:
            runs[entry.trial.seed] = entry
    made = [_setting([runs[seed] for seed in sorted(runs)]) for runs in found.values()]
    return sorted(made, key=lambda setting: (SUITES.index(setting.suite), _place(setting.task)))


def _place(task: str) -> int:
    """Unknown tasks come last."""
    known = (*GLUE, *TEXT17)
    return known.index(task) if task in known else len(known)


def _setting(runs: Sequence[Entry]) -> Setting:
    trial = runs[0].trial
    return Setting(trial.suite, trial.task, without(trial.recipe, "seed"), tuple(runs))


def without(recipe: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The recipe less these of its settings or its method's."""
    left = {name: value for name, value in recipe.items() if name not in names}
    return {**left, "method": {name: value for name, value in recipe["method"].items() if name not in names}}


def choose(candidates: Sequence[Setting]) -> Choice | None:
    """The best of one task's settings by validation; None where all diverged or there are none."""
    sound = [setting for setting in candidates if not setting.num_diverged]
    if not sound:
        return None
    shared = frozenset.intersection(*(setting.seeds for setting in sound))
    best = max(sound, key=lambda setting: setting.validation(shared or setting.seeds))
    num_runs = sum(len(setting.entries) for setting in candidates)
    return Choice(best, len(candidates), num_runs, sum(setting.num_diverged for setting in candidates))


def of_task(found: Iterable[Setting], suite: Suite, task: str, fits: Callable[[Setting], bool]) -> list[Setting]:
    """Those of a task that fit."""
    return [setting for setting in found if (setting.suite, setting.task) == (suite, task) and fits(setting)]


def sweep_of(found: Iterable[Setting], vary: str) -> dict[float, Setting]:
    """The settings of one task that differ in ``vary`` alone, by its value; empty where it has one value only.

    Of several such groups the one with the most values, then with the most runs, then with the best by validation.
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
    """The entries of a backbone, and those without one. Scores on two backbones do not stand in one table.

    Raises:
        UnknownName: there are none of this name.
        PolytaskError: there are several backbones and no name was given, or several by the same name.
    """
    names = Counter(entry.backbone["name"] for entry in entries if entry.backbone["name"] is not None)
    if name is not None and name not in names:
        raise UnknownName("backbone in this ledger", name, names)
    if name is None and len(names) > 1:
        there = ", ".join(f"{known} ({count} entries)" for known, count in names.most_common())
        raise PolytaskError(f"this ledger holds several backbones: {there}. Say which with --backbone")
    kept = [entry for entry in entries if name is None or entry.backbone["name"] in (name, None)]
    prints = {entry.backbone["fingerprint"] for entry in kept if entry.backbone["name"] is not None}
    if len(prints) > 1:
        raise PolytaskError(
            f"this ledger holds {len(prints)} backbones by the name {next(iter(names))}, with different weights. "
            "Keep each edition of another backbone in a folder of its own"
        )
    return kept


def on_one_data(entries: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """Of each task the entries on the rows that most of its entries are on, and remarks on those left out.

    A sample and the whole of a task are different rows, and their scores are not compared.
    """
    rows = defaultdict(Counter)  # type: ignore[var-annotated]
    for entry in entries:
        rows[entry.trial.suite, entry.trial.task][_rows(entry)] += 1
    kept, remarks = [], []
    for entry in entries:
        if _rows(entry) == rows[entry.trial.suite, entry.trial.task].most_common(1)[0][0]:
            kept.append(entry)
    for (_, task), counts in rows.items():
        if len(counts) > 1:
            left = sum(counts.values()) - max(counts.values())
            remarks.append(f"{task}: {left} entries on other rows than the rest are left out")
    return kept, remarks


def _rows(entry: Entry) -> tuple[Any, ...]:
    return (entry.trial.max_rows, entry.data.get("digest"))
