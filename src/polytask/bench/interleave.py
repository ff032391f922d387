"""Interleaved timing: machines drift, so runs alternate (A B C, B C A, …) and the median over rounds counts."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from statistics import fmean, median

MIN_ROUNDS = 3
GRACE_S = 10.0
"""How long the first rounds may take, however little time there is."""
Run = Callable[[], object]


def rounds(runs: Mapping[str, Run], told: Callable[[], object] = lambda: None) -> Iterator[dict[str, float]]:
    """The seconds of each run, round after round; each round starts with another. ``told`` is called after each run."""
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
    """The median seconds of each run over so many rounds, after one warm-up round."""
    return medians(list(itertools.islice(rounds(runs), 1, num_rounds + 1)))


def within(
    runs: Mapping[str, Run], seconds: float, told: Callable[[], object] = lambda: None
) -> list[dict[str, float]]:
    """At least three rounds, and as many as fit ``seconds``; after twice that time no further round begins."""
    taken: list[dict[str, float]] = []
    started = time.perf_counter()
    for one in rounds(runs, told):
        taken.append(one)
        totals = [sum(each.values()) for each in taken]
        if len(taken) >= MIN_ROUNDS and sum(totals) + fmean(totals) > seconds:
            break
        if time.perf_counter() - started > max(2 * seconds, GRACE_S):
            break
    return taken


def medians(taken: list[dict[str, float]]) -> dict[str, float]:
    """The median seconds of each run over the rounds."""
    return {name: median(one[name] for one in taken) for name in taken[0]}
