"""Taking turns: machines drift, so what is compared runs A B C, B C A, …, and the median of the rounds counts."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from statistics import fmean, median

LEAST = 3
GRACE_S = 10.0
"""So long may the least rounds take, whatever there is for them."""
Run = Callable[[], object]


def rounds(runs: Mapping[str, Run], told: Callable[[], object] = lambda: None) -> Iterator[dict[str, float]]:
    """The seconds of each run, round after round, each starting with the next; ``told`` after each."""
    names = list(runs)
    for turn in itertools.count():
        by = turn % max(1, len(names))
        taken = {}
        for name in (*names[by:], *names[:by]):
            start = time.perf_counter()
            runs[name]()
            taken[name] = time.perf_counter() - start
            told()
        yield {name: taken[name] for name in names}


def alternated(runs: Mapping[str, Run], num_rounds: int) -> dict[str, float]:
    """The median seconds of each run over so many rounds, after one that does not count."""
    return medians(list(itertools.islice(rounds(runs), 1, num_rounds + 1)))


def within(
    runs: Mapping[str, Run], seconds: float, told: Callable[[], object] = lambda: None
) -> list[dict[str, float]]:
    """The rounds that fit ``seconds``, three at least; after twice that time none begins, and one is always taken."""
    taken: list[dict[str, float]] = []
    started = time.perf_counter()
    for one in rounds(runs, told):
        taken.append(one)
        totals = [sum(each.values()) for each in taken]
        if len(taken) >= LEAST and sum(totals) + fmean(totals) > seconds:
            break
        if time.perf_counter() - started > max(2 * seconds, GRACE_S):
            break
    return taken


def medians(taken: list[dict[str, float]]) -> dict[str, float]:
    """Of each run over the rounds."""
    return {name: median(one[name] for one in taken) for name in taken[0]}
