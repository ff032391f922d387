"""Ever smaller editions, and the largest of them that fits a budget.

Each keeps the numbers of trials of compared methods equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from polytask.paper.edition import Edition, Plan, all_trials, identity

MIN_SETTINGS = 2
"""Of each method, whatever the budget, so that there is a choice."""


def fitted(edition: Edition, seconds: Mapping[str, float], budget_s: float) -> Edition:
    """The largest of ever smaller editions that fits a budget, or the smallest if none does.

    Cut are seeds first, then settings of every method, then points of the figures, then the most expensive tasks.

    Args:
        edition: what was asked for.
        seconds: of each of its trials that is still to be run, by its ``identity``.
        budget_s: the time there is.
    """

    def seconds_of(one: Edition) -> float:
        return sum(seconds.get(identity(trial), 0.0) for trial in all_trials(one))

    for smaller in (edition, *cuts(edition)):
        if seconds_of(smaller) <= budget_s:
            return smaller
    while seconds_of(smaller) > budget_s and len(tasks := {task for plan in smaller.plans for task in plan.tasks}) > 1:
        by_task = dict.fromkeys(sorted(tasks), 0.0)
        for trial in all_trials(smaller):
            by_task[trial.task] += seconds.get(identity(trial), 0.0)
        smaller = without_task(smaller, max(by_task, key=by_task.__getitem__))
    return smaller


def cuts(edition: Edition) -> Iterator[Edition]:
    """Ever smaller editions: fewer seeds first, then fewer settings, then fewer points of the figures."""
    for seeds in range(max(plan.most_seeds for plan in edition.plans) - 1, 0, -1):
        edition = edition.with_plans(lambda plan, seeds=seeds: plan.with_seeds(seeds))  # type: ignore[misc]
        yield edition
    while any(plan.num_settings > MIN_SETTINGS for plan in edition.plans):
        edition = edition.with_plans(lambda plan: replace(plan, settings=_fewer(plan.num_settings, MIN_SETTINGS)))
        yield edition
    while any(len(plan.units) > plan.least_units for plan in edition.plans):
        edition = edition.with_plans(lambda p: replace(p, units=p.units[: _fewer(len(p.units), p.least_units)]))
        yield edition


def without_task(edition: Edition, task: str) -> Edition:
    """The edition without a task, and without the exhibits that have no other."""
    plans = (replace(plan, tasks=tuple(name for name in plan.tasks if name != task)) for plan in edition.plans)
    return replace(edition, plans=tuple(plan for plan in plans if plan.tasks))


def cut_in_words(before: Edition, after: Edition) -> list[str]:
    """What the second edition has less of than the first, a sentence for each exhibit."""
    left = {plan.exhibit: plan for plan in after.plans}
    said = {plan.exhibit: _less(plan, left.get(plan.exhibit)) for plan in before.plans}
    return [f"{exhibit}: {'; '.join(less)}" for exhibit, less in said.items() if less]


def _less(plan: Plan, other: Plan | None) -> list[str]:
    if other is None:
        return ["left out"]
    counts = [
        ("seeds", plan.most_seeds, other.most_seeds),
        ("settings", plan.num_settings, other.num_settings),
        ("points", len(plan.units), len(other.units)),
    ]
    gone = [task for task in plan.tasks if task not in other.tasks]
    fewer = [f"{now} of {was} {what}" for what, was, now in counts if now < was]
    return [*fewer, *([f"without {', '.join(gone)}"] if gone else [])]


def _fewer(count: int, least: int) -> int:
    """Two thirds, but at least ``least`` if there were so many."""
    return max(min(least, count), count * 2 // 3)
