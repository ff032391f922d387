"""The time that work in progress still takes, from the seconds per unit of work that has finished."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

MIN_FINISHED = 5
"""The fewest finished pieces of work from which quartiles are taken."""


@dataclass
class Pace:
    """Seconds per unit of work, by kind.

    Medians and quartiles count, because a piece of work may have been paused, or have run beside another process. A
    kind with fewer than five finished pieces has the pace of all of them together; with fewer than five in all, the
    range is from half to twice the median.

    Attributes:
        amounts: of each piece of work, by its key, in any unit (tokens); 0 for one whose time is not counted.
        kinds: of each piece, by its key: those of one kind take about equally long per unit.
    """

    amounts: Mapping[str, int]
    kinds: Mapping[str, Hashable]
    _rates: dict[Hashable, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, key: str, seconds: float) -> None:
        """Count a finished piece of work."""
        if self.amounts.get(key) and seconds > 0:
            self._rates[self.kinds[key]].append(seconds / self.amounts[key])

    def left_s(self, shares: Mapping[str, float], num_parallel: int = 1) -> tuple[float, float, float] | None:
        """The lower end, the middle and the upper end of the seconds left; None before anything has finished.

        Args:
            shares: how much of each piece is left, from 0 to 1, by its key.
            num_parallel: how much runs at the same time.
        """
        left: dict[Hashable, float] = defaultdict(float)
        for key, share in shares.items():
            if self.amounts.get(key):
                left[self.kinds[key]] += share * self.amounts[key]
        if left and not self._rates:
            return None
        paces = [(amount / num_parallel, self._quartiles(kind)) for kind, amount in left.items()]
        low, middle, high = (sum(amount * rates[at] for amount, rates in paces) for at in range(3))
        return low, middle, high

    def _quartiles(self, kind: Hashable) -> list[float]:
        own = self._rates.get(kind, [])
        if len(own) < MIN_FINISHED:
            own = [rate for rates in self._rates.values() for rate in rates]
        if len(own) >= MIN_FINISHED:
            return statistics.quantiles(own, n=4, method="inclusive")
        middle = statistics.median(own)
        return [middle / 2, middle, 2 * middle]
