"""Interleaved timing: runs alternate (A B C, B C A, …), because machines drift, and the median over rounds counts."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from statistics import fmean, median

MIN_ROUNDS = 3
GRACE_S = 10.0
"""The first rounds may take this long even if less time was asked for."""
Run = Callable[[], object]


def rounds(
    runs: Mapping[str, Run],
    on_run: Callable[[], object] = lambda: None,
    clock: Callable[[], float] | None = None,
) -> Iterator[dict[str, float]]:
    """Yield the seconds of each run, round after round. Each round starts with another run.

    Args:
        runs: what to time, by name.
        on_run: called after each run.
        clock: the time in seconds (default: wall time).
    """
    names, now = list(runs), clock or time.perf_counter
    for turn in itertools.count():
        by = turn % max(1, len(names))
        taken = {}
        for name in (*names[by:], *names[:by]):
            start = now()
            runs[name]()
            taken[name] = now() - start
            on_run()
        yield {name: taken[name] for name in names}


def alternated(runs: Mapping[str, Run], num_rounds: int, clock: Callable[[], float] | None = None) -> dict[str, float]:
    """The median seconds of each run over ``num_rounds`` rounds, after one warm-up round."""
    return medians(list(itertools.islice(rounds(runs, clock=clock), 1, num_rounds + 1)))


def measure_rounds(
    runs: Mapping[str, Run], seconds: float, on_run: Callable[[], object] = lambda: None
) -> list[dict[str, float]]:
    """Run at least three rounds, and more while they fit into ``seconds``.

    No round begins after twice that time, so on a slow machine there may be fewer than three.
    """
    taken: list[dict[str, float]] = []
    started = time.perf_counter()
    for one in rounds(runs, on_run):
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
