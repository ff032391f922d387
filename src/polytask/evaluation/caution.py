"""Warnings that precede what scores say: tasks on which nothing was learnt or nothing was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from polytask.wording import listed

IDLE = 0.02
"""The most absolute Matthews correlation of a method that learnt nothing, on some hundred rows."""


def is_idle(correlations: Iterable[float]) -> bool:
    """Whether all answers are unrelated to the labels, as far as Matthews' correlations tell."""
    values = list(correlations)
    return bool(values) and all(abs(value) <= IDLE for value in values)


def idle_in_words(titles: Sequence[str]) -> str:
    """A sentence on tasks of which nothing was learnt; empty if there are none."""
    if not titles:
        return ""
    return (
        f"On {listed(titles)} no method on the backbone learnt more than the most frequent class (Matthews' "
        f"correlation of at most {IDLE:g}): distances there mean nothing."
    )


def caution(runs: pd.DataFrame) -> str:
    """The warnings on runs (``task``, ``matthews``, ``validation`` and ``test`` of each); empty if there are none."""
    by_task = runs.groupby("task", sort=False)
    odd = [task for task, own in by_task if not np.isfinite(own[["validation", "test"]]).all(axis=None)]
    said = [idle_in_words([task for task, own in by_task if is_idle(own.matthews)])]
    said += [f"Scores on {listed(odd)} are not numbers: what is said of them means nothing."] if odd else []
    return " ".join(filter(None, said))
