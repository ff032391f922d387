"""Warnings that precede what an exhibit says: tasks on which nothing was learnt or nothing was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from polytask.paper.ledger import TFIDF
from polytask.paper.wording import listed

IDLE = 0.02
"""The most absolute Matthews correlation of a method that learnt nothing, on some hundred rows."""


def is_idle(correlations: Iterable[float]) -> bool:
    """Whether all answers are unrelated to the labels, as far as Matthews' correlations tell."""
    values = list(correlations)
    return bool(values) and all(abs(value) <= IDLE for value in values)


def on_idle(titles: Sequence[str]) -> str:
    """A sentence on tasks of which nothing was learnt; empty if there are none."""
    if not titles:
        return ""
    return (
        f"On {listed(titles)} no method on the backbone learnt more than the most frequent class (Matthews' "
        f"correlation of at most {IDLE:g}): distances there mean nothing."
    )


def caution(runs: pd.DataFrame) -> str:
    """The warnings on a figure; empty if there are none."""
    by_task = runs[(runs.method != TFIDF) & ~runs.diverged].sort_index().groupby("task", sort=False)
    odd = [task for task, own in by_task if not np.isfinite(own[["validation", "test"]]).all(axis=None)]
    said = [on_idle([task for task, own in by_task if is_idle(own.matthews)])]
    said += [f"Scores on {listed(odd)} are not numbers: what is said of them means nothing."] if odd else []
    return " ".join(filter(None, said))
