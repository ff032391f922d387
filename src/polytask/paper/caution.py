"""Warnings that precede what an exhibit says: tasks on which nothing was learnt or nothing was measured."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from polytask.paper.ledger import Entry
from polytask.paper.wording import listed

IDLE = 0.02
"""The most absolute Matthews correlation of a method that learnt nothing, on some hundred rows."""


def is_idle(entries: Iterable[Entry]) -> bool:
    """Whether the answers of all of these are unrelated to the labels, as far as their metrics tell."""
    values = [entry.metrics.get("matthews") for entry in entries]
    return bool(values) and all(value is not None and abs(value) <= IDLE for value in values)


def on_idle(titles: Sequence[str]) -> str:
    """A sentence on tasks of which nothing was learnt; empty if there are none."""
    if not titles:
        return ""
    return (
        f"On {listed(titles)} no method on the backbone learnt more than the most frequent class (Matthews' "
        f"correlation of at most {IDLE:g}): distances there mean nothing."
    )


def caution(entries: Sequence[Entry]) -> str:
    """The warnings on a figure; empty if there are none."""
    by_task: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.trial.has_backbone and entry.test is not None:
            by_task[entry.trial.task].append(entry)
    odd = [task for task, own in by_task.items() if not all(map(_is_finite, own))]
    said = [on_idle([task for task, own in by_task.items() if is_idle(own)])]
    said += [f"Scores on {listed(odd)} are not numbers: what is said of them means nothing."] if odd else []
    return " ".join(filter(None, said))


def _is_finite(entry: Entry) -> bool:
    return all(math.isfinite(score.score) for score in (entry.validation, entry.test) if score)
