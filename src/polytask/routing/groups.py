"""Groups of rows that one call of a formula serves, and how their tokens share matrix products."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from polytask.routing.stacking import D, tensors_of, with_parameters

Rows = slice | Tensor
Sizes = tuple[int, ...] | None
ROUND = 8
TIER_COSTS, MEMBER_COSTS = 512, 64
"""What a further product costs, and an adapter in it, in units of the first: they decide speed, never an answer."""


@dataclass(frozen=True)
class Group:
    """Rows that one call of a formula serves, the adapter of each, and how many units of a tensor each row takes.

    A unit is a row of ``[B, T, D]``, or where texts are packed a token of ``[N, 1, D]``.
    """

    units: Rows
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    is_trained: bool

    @classmethod
    def of(cls, adapters: Sequence[tuple[str, list[int]]], sizes: Sequence[int], is_trained: bool) -> Group:
        """The rows of some adapters, in the order of the batch."""
        pairs = sorted((row, name) for name, rows in adapters for row in rows)
        rows, names = zip(*pairs)
        return cls(units_of(rows, sizes), names, tuple(sizes[row] for row in rows), is_trained)

    @cached_property
    def adapters(self) -> tuple[str, ...]:
        """The adapters in it, each once, in the order of their rows."""
        return tuple(dict.fromkeys(self.names))

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """The units of each adapter."""
        counts = dict.fromkeys(self.adapters, 0)
        for name, size in zip(self.names, self.sizes, strict=True):
            counts[name] += size
        return tuple(counts.values())

    @cached_property
    def is_even(self) -> bool:
        """Whether each adapter has equally many units, side by side."""
        runs = [name for name, _ in itertools.groupby(self.names)]
        return len(runs) == len(self.adapters) and min(self.counts) == max(self.counts)

    @cached_property
    def tiers(self) -> tuple[Tile, ...]:
        """The products that cost least: one of so many units of each adapter, others of what some have beyond that.

        A product is as long as its longest adapter: of few adapters with many units the others need not bear all.
        """
        levels = [0, *sorted({rounded(count) for count in self.counts})]
        above = [tuple(k for k, count in enumerate(self.counts) if count > level) for level in levels]
        cheapest: list[tuple[int, tuple[Tile, ...]]] = [(0, ())] * len(levels)  # of what stands above each level
        for low in reversed(range(len(levels) - 1)):
            more = TIER_COSTS + MEMBER_COSTS * len(above[low]) if low else 0
            costs = {
                high: more + len(above[low]) * (levels[high] - levels[low]) + cheapest[high][0]
                for high in range(low + 1, len(levels))
            }
            high = min(costs, key=costs.__getitem__)
            cheapest[low] = costs[high], (Tile(above[low], levels[high] - levels[low], low == 0), *cheapest[high][1])
        return cheapest[0][1]

    @cached_property
    def which(self) -> Tensor:
        """The number of each unit's adapter, in the order of ``adapters``."""
        number = {name: k for k, name in enumerate(self.adapters)}
        return torch.tensor([number[name] for name in self.names]).repeat_interleave(torch.tensor(self.sizes))

    @cached_property
    def places(self) -> tuple[Tensor, Tensor]:
        """Each adapter's units side by side, tier after tier: where each unit is, and which is at each place.

        The second has the first unit where nobody is.
        """
        order = self.which.sort(stable=True).indices
        owner, within = self.which[order], torch.cat([torch.arange(count) for count in self.counts])
        taken, start, below = torch.empty_like(order), 0, 0
        for tier in self.tiers:
            here = (within >= below) & (within < below + tier.width)
            slots = torch.zeros(len(self.counts), dtype=torch.long)
            slots[tier.which] = torch.arange(len(tier.adapters))
            taken[here] = start + slots[owner[here]] * tier.width + within[here] - below
            start, below = start + tier.size, below + tier.width
        places = torch.empty_like(order).index_copy_(0, order, taken)
        units = torch.zeros(start, dtype=torch.long).index_copy_(0, taken, order)
        return places, units


@dataclass(frozen=True)
class Tile:
    """Adapters (their numbers in the part) whose units share a product, with room for ``width`` of each."""

    adapters: tuple[int, ...]
    width: int
    has_all: bool

    @property
    def size(self) -> int:
        """Units, with those that nobody reads."""
        return len(self.adapters) * self.width

    @cached_property
    def which(self) -> Tensor:
        """The numbers of its adapters."""
        return torch.tensor(self.adapters)

    def of(self, stacked: D) -> D:
        """Its adapters out of a part's."""
        if self.has_all:
            return stacked
        own = {
            name: tensor.index_select(0, self.which.to(tensor.device)) for name, tensor in tensors_of(stacked).items()
        }
        return with_parameters(stacked, own)


def rounded(count: int) -> int:
    """Rounded up, so that products are of few sizes."""
    return -(-count // ROUND) * ROUND


def units_of(rows: Sequence[int], sizes: Sequence[int]) -> Rows:
    """The units of some rows: a slice where the rows are consecutive, else their numbers as a tensor."""
    stops = list(itertools.accumulate(sizes))
    if list(rows) == list(range(rows[0], rows[0] + len(rows))):
        return slice(stops[rows[0]] - sizes[rows[0]], stops[rows[-1]])
    return torch.tensor([unit for row in rows for unit in range(stops[row] - sizes[row], stops[row])])
