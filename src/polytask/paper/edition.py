"""An edition: which trials are run for each exhibit, and within which caps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import Any

from polytask.data.encoding import usual_stride
from polytask.errors import RecipeError, UnknownName
from polytask.methods import METHODS, Houlsby
from polytask.paper.grids import ABLATED, ABLATION, FIGURE_TASKS, WHOLE_SUITES, _published_rows
from polytask.paper.ledger import TFIDF, Entry, Trial
from polytask.paper.suites import suite_of
from polytask.serialization import ADDED, to_json
from polytask.training.recipe import Recipe

LEAST_SETTINGS = 2
"""Of each method: a budget leaves a choice."""

Axis = tuple[str, tuple[Any, ...]]
"""A setting of the recipe or the method, with its values, the most important first."""


@dataclass(frozen=True)
class Unit:
    """What one row or point of an exhibit is chosen from: a method and its grid.

    Attributes:
        method: ``houlsby``, ``full``, …, or ``tfidf``.
        grid: its axes; combinations are ordered by how far they are from the first values.
        more: axes that are used once the combinations of ``grid`` are used up.
        fixed: settings that are the same in all of them.
    """

    method: str
    grid: tuple[Axis, ...]
    more: tuple[Axis, ...] = ()
    fixed: tuple[tuple[str, Any], ...] = ()

    def settings(self) -> list[dict[str, Any]]:
        """All combinations, the most important first."""
        axes = (*self.grid, *self.more)
        places = product(*(range(len(values)) for _, values in axes))
        num_own = len(self.grid)
        ordered = sorted(places, key=lambda at: (sum(at[num_own:]), sum(at[:num_own]), at))
        return [
            {**dict(self.fixed), **{name: values[i] for (name, values), i in zip(axes, at, strict=True)}}
            for at in ordered
        ]


@dataclass(frozen=True)
class Plan:
    """What is run for one exhibit: ``settings`` of every unit on every task with ``seeds`` seeds.

    ``units`` are in the order of importance; those after the first ``least_units`` may be cut. ``small_tasks`` is rows
    and seeds: tasks of which the paper has fewer training rows are run with so many seeds instead.
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
        return seeds if _published_rows(task) < rows else self.seeds

    @property
    def most_seeds(self) -> int:
        """Of any of its tasks."""
        return max(map(self.seeds_of, self.tasks), default=self.seeds)

    def with_seeds(self, most: int) -> Plan:
        """The same with at most so many seeds."""
        rows, seeds = self.small_tasks
        return replace(self, seeds=min(self.seeds, most), small_tasks=(rows, min(seeds, most)))

    @property
    def num_settings(self) -> int:
        """Of each unit: no unit may have more than the one with the fewest."""
        return min(self.settings, *(len(unit.settings()) for unit in self.units))


@dataclass(frozen=True)
class Part:
    """A share of an edition that is a result by itself.

    Attributes:
        name: as ``--part`` takes it.
        exhibits: whose trials it runs, less those of earlier parts.
        methods: only these; all where it is empty.
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
        name: of its folder among the results.
        max_rows: the most training rows of a task; None for all. Likewise of validation and of test.
        max_length: tokens of a text.
        span_length: tokens of a window of SQuAD.
        plans: one an exhibit.
        layers: of the backbone; top-n fine-tuning of more layers than there are is left out.
        small_tasks: rows and epochs: tasks of which the paper has fewer training rows are trained for so many epochs.
        parts: run one after the other; what is in none of them comes last. Without any, all is one part.
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
        """What is run for an exhibit.

        Raises:
            UnknownName: this edition has none of this name.
        """
        plans = {plan.exhibit: plan for plan in self.plans}
        if exhibit not in plans:
            raise UnknownName("exhibit", exhibit, plans)
        return plans[exhibit]

    def on(self, layers: int) -> Edition:
        """The same for a backbone of so many layers."""
        plans = tuple(replace(plan, units=tuple(_within(plan.units, layers))) for plan in self.plans)
        return replace(self, plans=plans, layers=layers)

    def limited(self, *, max_rows: int | None = None, epochs: int | None = None, seeds: int | None = None) -> Edition:
        """The same with other caps, under a name of its own that says so. ``max_rows`` is of every split."""
        name = self.name + (f"-{max_rows}rows" if max_rows else "") + (f"-{epochs}epochs" if epochs else "")
        name += f"-{seeds}seeds" if seeds else ""
        plans = self.plans
        small_tasks = self.small_tasks
        if epochs:
            plans = tuple(replace(p, units=tuple(_with(unit, "epochs", epochs) for unit in p.units)) for p in plans)
            small_tasks = (0, 0)
        if seeds:
            plans = tuple(replace(plan, seeds=seeds, small_tasks=(0, 0)) for plan in plans)
        caps: dict[str, Any] = {}
        if max_rows:
            own = {what: getattr(self, what) for what in ("max_rows", "max_validation", "max_test")}
            caps = {
                what: max_rows if cap is None or what == "max_rows" else min(max_rows, cap) for what, cap in own.items()
            }
        return replace(self, name=name, plans=plans, small_tasks=small_tasks, **caps)

    def restricted(self, exhibits: Iterable[str] = (), tasks: Iterable[str] = ()) -> Edition:
        """These exhibits and tasks only, in the order of the edition.

        Raises:
            UnknownName: there is no such exhibit or task.
            RecipeError: no exhibit has any of the tasks.
        """
        exhibits, tasks = set(exhibits), list(tasks)
        for name in exhibits:
            self.plan(name)
        asked = {name: suite_of(name) for name in tasks}
        plans = [plan for plan in self.plans if not exhibits or plan.exhibit in exhibits]
        if tasks:
            # WNLI stands in no plan, because the paper leaves it out; who names it gets it beside the others of GLUE.
            plans = [_on_tasks(plan, [*dict.fromkeys(asked)]) for plan in plans]
            plans = [plan for plan in plans if plan.tasks]
        if not plans:
            raise RecipeError(f"none of these exhibits has any of the tasks {', '.join(asked)}")
        return replace(self, plans=tuple(plans))

    def caps(self) -> list[str]:
        """What it limits, in words."""
        most = {"training": self.max_rows, "validation": self.max_validation, "test": self.max_test}
        said = [f"at most {rows:,} {what} rows a task" for what, rows in most.items() if rows is not None]
        windows = "" if self.span_length == self.max_length else f" ({self.span_length} for SQuAD)"
        epochs = sorted({n for p in self.plans for u in p.units for name, v in u.grid if name == "epochs" for n in v})
        rows, more = self.small_tasks
        passes = [f"{', '.join(map(str, epochs))} epoch{'' if list(epochs) == [1] else 's'}"] if epochs else []
        passes += [f"{more} epoch{'s' * (more != 1)} of tasks of fewer than {rows:,} rows"] if rows else []
        few, many = min(plan.seeds for plan in self.plans), max(plan.most_seeds for plan in self.plans)
        seeds = f"{few} to {many} seeds" if few < many else f"{few} seed{'s' if few > 1 else ''}"
        return [*said, f"{self.max_length} tokens{windows}", *passes, seeds]

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, as ``polytask.serialization`` has them."""
        return dict(json.loads(json.dumps(to_json(self), default=to_json)))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Edition:
        """The inverse of ``to_json``."""
        plans = tuple(
            Plan(
                **{
                    **plan,
                    "tasks": tuple(plan["tasks"]),
                    "units": tuple(map(_unit_from_json, plan["units"])),
                    "small_tasks": tuple(plan.get("small_tasks", (0, 0))),
                }
            )
            for plan in values["plans"]
        )
        parts = tuple(
            Part(**{**part, "exhibits": tuple(part["exhibits"]), "methods": tuple(part["methods"])})
            for part in values.get("parts", ())
        )
        small_tasks = tuple(values.get("small_tasks", (0, 0)))
        return cls(**{**values, "plans": plans, "small_tasks": small_tasks, "parts": parts})


REST = Part("rest", ())


def trials(edition: Edition, exhibit: str, tasks: Sequence[str] | None = None) -> Iterator[Trial]:
    """What an exhibit is drawn from: of every task every unit's settings with every seed.

    Two exhibits may ask for equal trials; those are run once.
    """
    plan = edition.plan(exhibit)
    for task in plan.tasks:
        if tasks is not None and task not in tasks:
            continue
        for unit in plan.units:
            for values in unit.settings()[: plan.num_settings]:
                for seed in range(plan.seeds_of(task)):
                    yield _trial(edition, task, unit.method, {**values, "seed": seed})


def all_trials(edition: Edition) -> list[Trial]:
    """Those of all exhibits, each once, in the order of the exhibits."""
    found = {identity(trial): trial for plan in edition.plans for trial in trials(edition, plan.exhibit)}
    return list(found.values())


def in_parts(edition: Edition) -> dict[str, list[Trial]]:
    """All trials by the name of the first part that they belong to, parts in their order.

    What belongs to none is the part ``rest``, which is all of an edition without parts.
    """
    found: dict[str, dict[str, Trial]] = {part.name: {} for part in (*edition.parts, REST)}
    placed: set[str] = set()
    for part in (*edition.parts, REST):
        for plan in edition.plans:
            for trial in trials(edition, plan.exhibit):
                name = identity(trial)
                if name not in placed and (part is REST or part.has(plan.exhibit, trial)):
                    found[part.name][name] = trial
        placed |= found[part.name].keys()
    return {name: list(own.values()) for name, own in found.items() if own}


def of_exhibit(entries: Iterable[Entry], edition: Edition, exhibit: str) -> list[Entry]:
    """Those of the entries that an exhibit is drawn from: what others asked for would make trials unequal."""
    wanted = {identity(trial) for trial in trials(edition, exhibit)}
    return [entry for entry in entries if identity(entry.trial) in wanted]


def cuts(edition: Edition) -> Iterator[Edition]:
    """Ever smaller editions: fewer seeds first, then fewer settings, then fewer points of the figures.

    Each keeps the numbers of trials of what is compared equal.
    """
    for seeds in range(max(plan.most_seeds for plan in edition.plans) - 1, 0, -1):
        edition = _each(edition, lambda plan, seeds=seeds: plan.with_seeds(seeds))
        yield edition
    while any(plan.num_settings > LEAST_SETTINGS for plan in edition.plans):
        edition = _each(edition, lambda plan: replace(plan, settings=_fewer(plan.num_settings, LEAST_SETTINGS)))
        yield edition
    while any(len(plan.units) > plan.least_units for plan in edition.plans):
        edition = _each(edition, lambda p: replace(p, units=p.units[: _fewer(len(p.units), p.least_units)]))
        yield edition


def cut_in_words(before: Edition, after: Edition) -> list[str]:
    """What the second has less of than the first, a sentence for each exhibit."""
    left = {plan.exhibit: plan for plan in after.plans}
    said = []
    for one in before.plans:
        if one.exhibit not in left:
            said.append(f"{one.exhibit}: left out")
            continue
        other = left[one.exhibit]
        counts = {
            "seeds": (one.most_seeds, other.most_seeds),
            "settings": (one.num_settings, other.num_settings),
            "points": (len(one.units), len(other.units)),
        }
        less = [f"{now} of {was} {what}" for what, (was, now) in counts.items() if now < was]
        gone = [task for task in one.tasks if task not in other.tasks]
        less += [f"without {', '.join(gone)}"] if gone else []
        said += [f"{one.exhibit}: {'; '.join(less)}"] if less else []
    return said


def without_task(edition: Edition, task: str) -> Edition:
    """The same without a task, and without the exhibits that have no other."""
    plans = [replace(plan, tasks=tuple(name for name in plan.tasks if name != task)) for plan in edition.plans]
    return replace(edition, plans=tuple(plan for plan in plans if plan.tasks))


def _fewer(count: int, least: int) -> int:
    """Two thirds, at least ``least`` where there were so many."""
    return max(min(least, count), count * 2 // 3)


def _each(edition: Edition, change: Any) -> Edition:
    return replace(edition, plans=tuple(change(plan) for plan in edition.plans))


def _on_tasks(plan: Plan, asked: Sequence[str]) -> Plan:
    suites = {suite_of(task) for task in plan.tasks} if plan.exhibit in WHOLE_SUITES else set()
    return replace(plan, tasks=tuple(task for task in asked if task in plan.tasks or suite_of(task) in suites))


def _within(units: Sequence[Unit], layers: int) -> Iterator[Unit]:
    """Without what needs more layers than there are."""
    for unit in units:
        grid = tuple((name, tuple(v for v in values if name != "n" or v <= layers)) for name, values in unit.grid)
        if all(values for _, values in grid):
            yield replace(unit, grid=grid)


def _with(unit: Unit, name: str, value: Any) -> Unit:
    """With one value for an axis; what has no such axis is as it was."""
    grid = tuple((axis, (value,) if axis == name else values) for axis, values in unit.grid)
    return replace(unit, grid=grid)


def _trial(edition: Edition, task: str, method: str, values: dict[str, Any]) -> Trial:
    suite = suite_of(task)
    recipe: dict[str, Any]
    if method == TFIDF:
        seed = values.pop("seed")
        recipe = {"method": {"name": TFIDF, **values}, "seed": seed}
    else:
        rows, epochs = edition.small_tasks
        if _published_rows(task) < rows:
            values["epochs"] = epochs
        own = {field.name for field in fields(METHODS[method])}  # type: ignore[arg-type]
        start = {name: value for name, value in Recipe.paper().method.settings().items() if method == Houlsby.name}
        settings = {name: value for name, value in values.items() if name in own}
        rest = {name: value for name, value in values.items() if name not in own}
        is_span = suite == "squad"
        length = edition.span_length if is_span else edition.max_length
        base = replace(Recipe.paper(), method=METHODS[method](**{**start, **settings}), max_length=length)
        if is_span:  # as in BERT's code for SQuAD
            base = replace(base, stride=usual_stride(length), head_dropout=0.0)
        recipe = replace(base, **rest).to_json()
    is_ablated = recipe["method"] == ABLATED and task in FIGURE_TASKS and recipe["seed"] == 0
    return Trial(
        edition=edition.name,
        suite=suite,
        task=task,
        recipe=recipe,
        max_rows=edition.max_rows,
        measures=(ABLATION,) if is_ablated else (),
        max_validation=edition.max_validation,
        max_test=edition.max_test,
    )


def identity(trial: Trial) -> str:
    """The trial but for the edition's name: equal for trials that have equal keys on equal rows."""
    return json.dumps({**trial.to_json(), "edition": None}, sort_keys=True)


def _unit_from_json(values: Mapping[str, Any]) -> Unit:
    grid, more = (tuple((name, tuple(axis)) for name, axis in values[key]) for key in ("grid", "more"))
    return Unit(values["method"], grid, more, tuple((name, value) for name, value in values["fixed"]))
