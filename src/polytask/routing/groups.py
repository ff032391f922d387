"""Groups of rows whose deltas run together, and how their tokens are tiled into matrix products."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from polytask.devices import on_device
from polytask.routing.stacking import D, tensors_of, with_parameters

Rows = slice | Tensor
Sizes = tuple[int, ...] | None
ROUND_TO = 8
TILE_COST, ADAPTER_COST = 512, 64
"""The cost of one more matrix product and of one more adapter in it, in units; affects speed, never an answer."""


@dataclass(frozen=True)
class Group:
    """Rows whose deltas run together.

    A unit is an index of a tensor's first dimension: a row of ``[B, T, D]``, or a token of a packed ``[N, 1, D]``.

    Attributes:
        units: the units of all its rows.
        names: the adapter of each row.
        sizes: the number of units of each row.
        is_trained: whether the deltas need gradients.
    """

    units: Rows
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    is_trained: bool
    _layouts: dict[object, Layout] = field(default_factory=dict, compare=False, repr=False)
    _indices: dict[object, Tensor] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, adapters: Sequence[tuple[str, list[int]]], sizes: Sequence[int], is_trained: bool) -> Group:
        """The group of the rows of some adapters, in the order of the batch; ``sizes`` are those of all rows."""
        pairs = sorted((row, name) for name, rows in adapters for row in rows)
        rows, names = zip(*pairs)
        return cls(unit_index(rows, sizes), names, tuple(sizes[row] for row in rows), is_trained)

    @cached_property
    def adapters(self) -> tuple[str, ...]:
        """Its adapters, each once, in order of first appearance."""
        return tuple(dict.fromkeys(self.names))

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """The number of units of each adapter."""
        counts = dict.fromkeys(self.adapters, 0)
        for name, size in zip(self.names, self.sizes, strict=True):
            counts[name] += size
        return tuple(counts.values())

    @cached_property
    def is_even(self) -> bool:
        """Whether all adapters have equally many units, each adapter's next to each other."""
        runs = [name for name, _ in itertools.groupby(self.names)]
        return len(runs) == len(self.adapters) and min(self.counts) == max(self.counts)

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """The cheapest tiling: one tile with units of every adapter, and further ones for adapters with more units.

        All rows of a product are as long as its longest. With several tiles, one adapter with many units does not
        lengthen the rows of the others.
        """
        levels = [0, *sorted({round_up(count) for count in self.counts})]
        above = [tuple(k for k, count in enumerate(self.counts) if count > level) for level in levels]
        cheapest: list[tuple[int, tuple[Tile, ...]]] = [(0, ())] * len(levels)  # for the units above each level
        for low in reversed(range(len(levels) - 1)):
            more = TILE_COST + ADAPTER_COST * len(above[low]) if low else 0
            costs = {
                high: more + len(above[low]) * (levels[high] - levels[low]) + cheapest[high][0]
                for high in range(low + 1, len(levels))
            }
            high = min(costs, key=costs.__getitem__)
            cheapest[low] = costs[high], (Tile(above[low], levels[high] - levels[low], low == 0), *cheapest[high][1])
        return cheapest[0][1]

    @cached_property
    def adapter_index(self) -> Tensor:
        """The position in ``adapters`` of each unit's adapter, ``[units]``."""
        number = {name: k for k, name in enumerate(self.adapters)}
        return torch.tensor([number[name] for name in self.names]).repeat_interleave(torch.tensor(self.sizes))

    def units_on(self, device: torch.device) -> Rows:
        """``units`` on a device."""
        if isinstance(self.units, slice):
            return self.units
        if device not in self._indices:
            self._indices[device] = on_device(self.units, device)
        return self._indices[device]

    def stack_index(self, positions: tuple[int, ...], device: torch.device) -> Tensor:
        """The position in a stack of each unit's adapter, ``[units]``; ``positions`` as in ``layout``."""
        key = (positions, device)
        if key not in self._indices:
            self._indices[key] = on_device(torch.tensor(positions)[self.adapter_index], device)
        return self._indices[key]

    def layout(self, positions: tuple[int, ...], num_stacked: int, device: torch.device) -> Layout:
        """The layout of units in tiles, each adapter's units next to each other, tile after tile.

        Args:
            positions: the position of each of its adapters in a stack.
            num_stacked: the number of adapters in the stack, whether they are of this group or not.
            device: where its tensors are.
        """
        key = (positions, num_stacked, device)
        if key not in self._layouts:
            self._layouts[key] = self._layout(torch.tensor(positions), num_stacked).to(device)
        return self._layouts[key]

    def _layout(self, positions: Tensor, num_stacked: int) -> Layout:
        order = self.adapter_index.sort(stable=True).indices
        owner, within = self.adapter_index[order], torch.cat([torch.arange(count) for count in self.counts])
        taken, start, below, placed = torch.empty_like(order), 0, 0, []
        for tile in self.tiles:
            here = (within >= below) & (within < below + tile.width)
            row = torch.zeros(len(self.counts), dtype=torch.long)
            row[list(tile.adapters)] = positions if tile.has_all else torch.arange(len(tile.adapters))
            taken[here] = start + row[owner[here]] * tile.width + within[here] - below
            num_rows = num_stacked if tile.has_all else len(tile.adapters)
            placed.append(PlacedTile(num_rows, tile.width, None if tile.has_all else positions[list(tile.adapters)]))
            start, below = start + placed[-1].size, below + tile.width
        places = torch.empty_like(order).index_copy_(0, order, taken)
        units = torch.zeros(start, dtype=torch.long).index_copy_(0, taken, order)
        return Layout(places, units, tuple(placed))


@dataclass(frozen=True)
class Tile:
    """One matrix product: adapters (their positions in the group) with room for ``width`` units of each."""

    adapters: tuple[int, ...]
    width: int
    has_all: bool

    @property
    def size(self) -> int:
        """The number of places, empty ones included."""
        return len(self.adapters) * self.width


@dataclass(frozen=True)
class PlacedTile:
    """A tile for the adapters of a stack.

    Attributes:
        num_rows: the number of its rows, one for each adapter.
        width: the number of units of a row.
        positions: the positions of its adapters in the stack; None if it has a row for every adapter of the stack.
    """

    num_rows: int
    width: int
    positions: Tensor | None

    @property
    def size(self) -> int:
        """The number of places, empty ones included."""
        return self.num_rows * self.width

    def select(self, stacked: D) -> D:
        """The stacked delta of its own adapters, out of that of all adapters of the stack."""
        if self.positions is None:
            return stacked
        own = {name: tensor.index_select(0, self.positions) for name, tensor in tensors_of(stacked).items()}
        return with_parameters(stacked, own)

    def to(self, device: torch.device) -> PlacedTile:
        """The same tile, with its positions on a device."""
        return self if self.positions is None else replace(self, positions=on_device(self.positions, device))


@dataclass(frozen=True)
class Layout:
    """Where a group's units are in its tiles.

    Attributes:
        places: the place of each unit, ``[units]``.
        units: the unit at each place, ``[places]``; empty places have unit 0.
        tiles: the tiles, one after another.
    """

    places: Tensor
    units: Tensor
    tiles: tuple[PlacedTile, ...]

    def to(self, device: torch.device) -> Layout:
        """The same layout, with its tensors on a device."""
        tiles = tuple(tile.to(device) for tile in self.tiles)
        return Layout(on_device(self.places, device), on_device(self.units, device), tiles)


def round_up(count: int) -> int:
    """``count`` rounded up to a multiple of ``ROUND_TO``, so that products have few different sizes."""
    return -(-count // ROUND_TO) * ROUND_TO


def unit_index(rows: Sequence[int], sizes: Sequence[int]) -> Rows:
    """The units of some rows: a slice if the rows are consecutive, else a tensor of indices."""
    stops = list(itertools.accumulate(sizes))
    if list(rows) == list(range(rows[0], rows[0] + len(rows))):
        return slice(stops[rows[0]] - sizes[rows[0]], stops[rows[-1]])
    return torch.tensor([unit for row in rows for unit in range(stops[row] - sizes[row], stops[row])])
