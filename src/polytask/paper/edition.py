"""An edition: which trials are run for each exhibit, and within which caps."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import Any

from polytask.data.encoding import usual_stride
from polytask.errors import RecipeError, UnknownName
from polytask.methods import METHODS, Houlsby
from polytask.paper.ledger import ABLATION, TFIDF, Entry, Trial
from polytask.serialization import ADDED, to_json, with_tuples
from polytask.suites.tasks import official_rows, suite_of
from polytask.training.recipe import Recipe
from polytask.wording import counted

ABLATED = {"name": "houlsby", **Recipe.paper().method.settings()}
"""The method whose layers are removed one span after another, with the first seed on each task of that exhibit."""

FIGURE_TASKS = ("CoLA", "MNLI-m")
WHOLE_SUITES = ("table1", "table2", "tradeoff", "squad")
"""Exhibits for which ``--tasks`` may name any task of their suites."""

Axis = tuple[str, tuple[Any, ...]]
"""A setting of the recipe or the method with its values, the most important first."""


@dataclass(frozen=True)
class Unit:
    """A method and its grid: what one row or point of an exhibit is chosen from.

    Attributes:
        method: ``houlsby``, ``full``, …, or ``tfidf``.
        grid: its axes; combinations are ordered by their distance from the first values.
        more: axes that are used once the combinations of ``grid`` are used up.
        fixed: settings that are the same in all of them.
    """

    method: str
    grid: tuple[Axis, ...]
    more: tuple[Axis, ...] = ()
    fixed: tuple[tuple[str, Any], ...] = ()

    def values(self, axis: str, most: float = math.inf) -> tuple[Any, ...]:
        """The values of an axis of the grid, up to ``most``; empty if it has no such axis."""
        return tuple(value for name, values in self.grid if name == axis for value in values if value <= most)

    def with_axis(self, axis: str, values: tuple[Any, ...]) -> Unit:
        """The unit with other values of an axis, if it has that axis."""
        return replace(self, grid=tuple((name, values if name == axis else own) for name, own in self.grid))

    def settings(self) -> list[dict[str, Any]]:
        """All combinations, the most important first."""
        axes, num_own = (*self.grid, *self.more), len(self.grid)
        places = product(*(range(len(values)) for _, values in axes))
        ordered = sorted(places, key=lambda at: (sum(at[num_own:]), sum(at[:num_own]), at))
        return [
            {**dict(self.fixed), **{name: values[i] for (name, values), i in zip(axes, at, strict=True)}}
            for at in ordered
        ]


@dataclass(frozen=True)
class Plan:
    """What is run for one exhibit: ``settings`` of every unit on every task with ``seeds`` seeds.

    Attributes:
        units: in the order of importance; those after the first ``least_units`` may be cut.
        small_tasks: (rows, seeds): tasks with fewer official training rows are run with so many seeds instead.
    """

    exhibit: str
    tasks: tuple[str, ...]
    units: tuple[Unit, ...]
    settings: int
    seeds: int
    least_units: int
    small_tasks: tuple[int, int] = field(default=(0, 0), metadata=ADDED)

    def seeds_of(self, task: str) -> int:
        """How many seeds a task is run with."""
        rows, seeds = self.small_tasks
        return seeds if official_rows(task) < rows else self.seeds

    @property
    def most_seeds(self) -> int:
        """The most seeds of any of its tasks."""
        return max(map(self.seeds_of, self.tasks), default=self.seeds)

    def with_seeds(self, most: int) -> Plan:
        """The plan with at most so many seeds."""
        rows, seeds = self.small_tasks
        return replace(self, seeds=min(self.seeds, most), small_tasks=(rows, min(seeds, most)))

    @property
    def num_settings(self) -> int:
        """Settings of each unit: no more than the unit with the fewest has."""
        return min(self.settings, *(len(unit.settings()) for unit in self.units))


@dataclass(frozen=True)
class Part:
    """A share of an edition that is a result by itself.

    Attributes:
        exhibits: whose trials it runs, except those of earlier parts.
        methods: only these; all if empty.
        seeds: the first so many; None for all.
    """

    name: str
    exhibits: tuple[str, ...]
    methods: tuple[str, ...] = ()
    seeds: int | None = None

    def has(self, exhibit: str, trial: Trial) -> bool:
        """Whether a trial of an exhibit belongs to this part, earlier parts aside."""
        return (
            exhibit in self.exhibits
            and (not self.methods or trial.method["name"] in self.methods)
            and (self.seeds is None or trial.seed < self.seeds)
        )


@dataclass(frozen=True)
class Edition:
    """Caps and plans.

    Attributes:
        name: of its folder of results.
        plans: one per exhibit.
        max_rows: the most training rows of a task; None for all. Likewise ``max_validation`` and ``max_test``.
        max_length: tokens of a text; ``span_length`` of a window of SQuAD.
        layers: of the backbone; fine-tuning more top layers than there are is left out.
        small_tasks: (rows, epochs): tasks with fewer official training rows are trained for so many epochs.
        parts: run one after the other; trials in none of them come last.
    """

    name: str
    plans: tuple[Plan, ...]
    max_rows: int | None = None
    max_validation: int | None = None
    max_test: int | None = None
    max_length: int = 128
    span_length: int = 384
    layers: int = 12
    small_tasks: tuple[int, int] = (0, 0)
    parts: tuple[Part, ...] = field(default=(), metadata=ADDED)

    def plan(self, exhibit: str) -> Plan:
        """The plan of an exhibit.

        Raises:
            UnknownName: there is none of this name.
        """
        plans = {plan.exhibit: plan for plan in self.plans}
        if exhibit not in plans:
            raise UnknownName("exhibit", exhibit, plans)
        return plans[exhibit]

    def with_plans(self, change: Callable[[Plan], Plan]) -> Edition:
        """The edition with each plan changed."""
        return replace(self, plans=tuple(map(change, self.plans)))

    def with_units(self, change: Callable[[Unit], Unit]) -> Edition:
        """The edition with each unit changed."""
        return self.with_plans(lambda plan: replace(plan, units=tuple(map(change, plan.units))))

    def on(self, layers: int) -> Edition:
        """The edition for a backbone of so many layers."""
        edition = self.with_units(lambda unit: unit.with_axis("n", unit.values("n", most=layers)))
        plans = (replace(plan, units=tuple(unit for unit in plan.units if unit.settings())) for plan in edition.plans)
        return replace(edition, plans=tuple(plans), layers=layers)

    def limited(self, *, max_rows: int | None = None, epochs: int | None = None, seeds: int | None = None) -> Edition:
        """The edition with other caps (``max_rows`` is of every split), under a name that says so."""
        given = {"rows": max_rows, "epochs": epochs, "seeds": seeds}
        edition = replace(self, name=self.name + "".join(f"-{n}{what}" for what, n in given.items() if n))
        if epochs:
            edition = replace(edition, small_tasks=(0, 0)).with_units(lambda u: u.with_axis("epochs", (epochs,)))
        if seeds:
            edition = edition.with_plans(lambda plan: replace(plan, seeds=seeds, small_tasks=(0, 0)))
        if max_rows:
            validation, test = (min(max_rows, most or max_rows) for most in (self.max_validation, self.max_test))
            edition = replace(edition, max_rows=max_rows, max_validation=validation, max_test=test)
        return edition

    def restricted(self, exhibits: Iterable[str] = (), tasks: Iterable[str] = ()) -> Edition:
        """The edition with these exhibits and tasks only; all if there are none.

        Raises:
            UnknownName: there is no such exhibit or task.
            RecipeError: no exhibit has any of the tasks.
        """
        exhibits, asked = set(exhibits), {name: suite_of(name) for name in tasks}
        for name in exhibits:
            self.plan(name)
        plans = [plan for plan in self.plans if not exhibits or plan.exhibit in exhibits]
        if asked:  # WNLI is in no plan, because the paper leaves it out; ``--tasks WNLI`` adds it to GLUE's
            plans = [plan for plan in (_on_tasks(plan, list(asked)) for plan in plans) if plan.tasks]
        if not plans:
            raise RecipeError(f"none of these exhibits has any of the tasks {', '.join(asked)}")
        return replace(self, plans=tuple(plans))

    def caps(self) -> list[str]:
        """The caps in words."""
        most = {"training": self.max_rows, "validation": self.max_validation, "test": self.max_test}
        said = [f"at most {rows:,} {what} rows a task" for what, rows in most.items() if rows is not None]
        windows = "" if self.span_length == self.max_length else f" ({self.span_length} for SQuAD)"
        epochs = sorted({n for plan in self.plans for unit in plan.units for n in unit.values("epochs")})
        passes = [f"{', '.join(map(str, epochs))} epoch{'' if epochs == [1] else 's'}"] if epochs else []
        rows, more = self.small_tasks
        passes += [f"{counted(more, 'epoch')} of tasks of fewer than {rows:,} rows"] if rows else []
        few, many = min(plan.seeds for plan in self.plans), max(plan.most_seeds for plan in self.plans)
        seeds = f"{few} to {many} seeds" if few < many else counted(few, "seed")
        return [*said, f"{self.max_length} tokens{windows}", *passes, seeds]

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return dict(json.loads(json.dumps(to_json(self), default=to_json)))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Edition:
        """The inverse of ``to_json``."""
        given = with_tuples(values)
        plans = tuple(Plan(**{**p, "units": tuple(Unit(**unit) for unit in p["units"])}) for p in given["plans"])
        return cls(**{**given, "plans": plans, "parts": tuple(Part(**part) for part in given.get("parts", ()))})


def trials(edition: Edition, exhibit: str) -> Iterator[Trial]:
    """The trials of an exhibit: on every task every unit's settings with every seed.

    Two exhibits may have equal trials, which are run once.
    """
    plan = edition.plan(exhibit)
    for task, unit in product(plan.tasks, plan.units):
        for values in unit.settings()[: plan.num_settings]:
            for seed in range(plan.seeds_of(task)):
                yield _trial(edition, task, unit.method, {**values, "seed": seed})


def all_trials(edition: Edition) -> list[Trial]:
    """The trials of all exhibits, each once, in the order of the exhibits."""
    found = {identity(trial): trial for plan in edition.plans for trial in trials(edition, plan.exhibit)}
    return list(found.values())


def in_parts(edition: Edition) -> dict[str, list[Trial]]:
    """All trials by the name of the first part that they belong to; trials in no part are the part ``rest``."""
    asked = [(plan.exhibit, trial) for plan in edition.plans for trial in trials(edition, plan.exhibit)]
    left = {identity(trial): trial for _, trial in asked}
    found: dict[str, list[Trial]] = {}
    for part in edition.parts:
        names = [name for exhibit, trial in asked if part.has(exhibit, trial) and (name := identity(trial)) in left]
        found[part.name] = [left.pop(name) for name in dict.fromkeys(names)]
    return {name: own for name, own in {**found, "rest": list(left.values())}.items() if own}


def of_exhibit(entries: Iterable[Entry], edition: Edition, exhibit: str) -> list[Entry]:
    """The entries of an exhibit's own trials: those of other exhibits would make numbers of trials unequal."""
    wanted = {identity(trial) for trial in trials(edition, exhibit)}
    return [entry for entry in entries if identity(entry.trial) in wanted]


def identity(trial: Trial) -> str:
    """The trial without the edition's name: equal for trials that have equal keys on equal rows."""
    return json.dumps({**trial.to_json(), "edition": None}, sort_keys=True)


def _trial(edition: Edition, task: str, method: str, values: dict[str, Any]) -> Trial:
    if method == TFIDF:
        seed = values.pop("seed")
        recipe: dict[str, Any] = {"method": {"name": TFIDF, **values}, "seed": seed}
    else:
        recipe = _recipe(edition, task, method, values).to_json()
    is_ablated = recipe["method"] == ABLATED and task in FIGURE_TASKS and recipe["seed"] == 0
    return Trial(
        edition=edition.name,
        suite=suite_of(task),
        task=task,
        recipe=recipe,
        max_rows=edition.max_rows,
        measures=(ABLATION,) if is_ablated else (),
        max_validation=edition.max_validation,
        max_test=edition.max_test,
    )


def _recipe(edition: Edition, task: str, method: str, values: dict[str, Any]) -> Recipe:
    """The paper's recipe with these settings of the method and of the recipe."""
    rows, epochs = edition.small_tasks
    values |= {"epochs": epochs} if official_rows(task) < rows else {}
    own = {field.name for field in fields(METHODS[method])}  # type: ignore[arg-type]
    start = Recipe.paper().method.settings() if method == Houlsby.name else {}
    settings = {name: values.pop(name) for name in list(values) if name in own}
    is_span = suite_of(task) == "squad"
    length = edition.span_length if is_span else edition.max_length
    base = replace(Recipe.paper(), method=METHODS[method](**{**start, **settings}), max_length=length)
    if is_span:  # as in BERT's code for SQuAD
        base = replace(base, stride=usual_stride(length), head_dropout=0.0)
    return replace(base, **values)


def _on_tasks(plan: Plan, asked: Sequence[str]) -> Plan:
    suites = {suite_of(task) for task in plan.tasks} if plan.exhibit in WHOLE_SUITES else set()
    return replace(plan, tasks=tuple(task for task in asked if task in plan.tasks or suite_of(task) in suites))
