"""What makes the distances of an exhibit mean little: it is said before them, of figures as of tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from polytask.paper.ledger import Entry
from polytask.paper.wording import listed

IDLE = 0.02
"""Matthews' correlation of a method that learnt nothing, on some hundred rows."""


def is_idle(entries: Iterable[Entry]) -> bool:
    """Whether the answers of all of these say nothing of the right ones, as far as they tell."""
    told = [entry.metrics.get("matthews") for entry in entries]
    return bool(told) and all(value is not None and abs(value) <= IDLE for value in told)


def on_idle(titles: Sequence[str]) -> str:
    """A sentence on tasks of which nothing was learnt; empty where there are none."""
    if not titles:
        return ""
    return (
        f"On {listed(titles)} no method on the backbone learnt more than the most frequent class (Matthews' "
        f"correlation of at most {IDLE:g}): distances there mean nothing."
    )


def caution(entries: Sequence[Entry]) -> str:
    """What is said before the reading of a figure: of which tasks nothing was learnt, or nothing was measured."""
    trained = [entry for entry in entries if entry.trial.has_backbone and entry.test is not None]
    tasks = dict.fromkeys(entry.trial.task for entry in trained)
    said = [on_idle([task for task in tasks if is_idle(e for e in trained if e.trial.task == task)])]
    odd = [task for task in tasks if any(_is_no_number(entry) for entry in trained if entry.trial.task == task)]
    if odd:
        said.append(f"Scores on {listed(odd)} are not numbers: what is said of them means nothing.")
    return " ".join(filter(None, said))


def _is_no_number(entry: Entry) -> bool:
    return any(score is not None and not math.isfinite(score.score) for score in (entry.validation, entry.test))
