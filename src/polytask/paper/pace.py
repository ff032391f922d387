"""The time that a run still takes, from the seconds per token of the trials that have finished."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from polytask.paper.cost import MIN_FINISHED
from polytask.paper.ledger import Entry, Trial

Kind = tuple[str, int | None]


@dataclass
class Pace:
    """Seconds per token by kind of trial.

    Medians and quartiles count, because a trial may have been paused, or have run beside another process. A kind with
    fewer than five finished trials has the pace of all trials together; with fewer than five in all, the range is from
    half to twice the median.

    Attributes:
        tokens: that each trial trains on, by its key; 0 for TF-IDF, whose time is not counted.
        trials: by key.
    """

    tokens: Mapping[str, int]
    trials: Mapping[str, Trial]
    _rates: dict[Kind, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, key: str, seconds: float) -> None:
        """Count a finished trial."""
        if self.tokens.get(key) and seconds > 0:
            self._rates[_kind(self.trials[key])].append(seconds / self.tokens[key])

    def add_entries(self, entries: Iterable[Entry]) -> None:
        """Count the trials of these entries that did not diverge."""
        for entry in entries:
            if entry.failure is None:
                self.add(entry.key, entry.seconds)

    def left_s(self, shares: Mapping[str, float], num_packs: int = 1) -> tuple[float, float, float] | None:
        """The lower end, the middle and the upper end of the seconds left; None before any trial has finished.

        Args:
            shares: how much of each trial is left, from 0 to 1, by its key.
            num_packs: how many packs of trials run at the same time.
        """
        left: dict[Kind, float] = defaultdict(float)
        for key, share in shares.items():
            if self.tokens.get(key):
                left[_kind(self.trials[key])] += share * self.tokens[key]
        if left and not self._rates:
            return None
        paces = [(num_tokens / num_packs, self._quartiles(kind)) for kind, num_tokens in left.items()]
        low, middle, high = (sum(num_tokens * rates[at] for num_tokens, rates in paces) for at in range(3))
        return low, middle, high

    def _quartiles(self, kind: Kind) -> list[float]:
        own = self._rates.get(kind, [])
        if len(own) < MIN_FINISHED:
            own = [rate for rates in self._rates.values() for rate in rates]
        if len(own) >= MIN_FINISHED:
            return statistics.quantiles(own, n=4, method="inclusive")
        middle = statistics.median(own)
        return [middle / 2, middle, 2 * middle]


def _kind(trial: Trial) -> Kind:
    """Trials of one kind take about equally long per token."""
    return trial.method["name"], trial.method.get("n")
