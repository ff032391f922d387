"""Where a batch's rows meet their adapters.

Two ways to apply deltas, one truth. *Looped*: each adapter's delta runs on its own rows. *Grouped*: deltas of one
kind run at once, their parameters stacked. Both call the same formula, with parameters of ``[…]`` or of ``[B, …]``,
and differ only in how rows are parted.

Nothing here depends on adapters that are not in the batch: adding or removing one leaves the others' bits alone.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.errors import RouteError
from polytask.methods.seam import Delta
from polytask.noise import Noise

Mode = Literal["looped", "grouped", "auto"]
Rows = slice | Tensor
Sizes = tuple[int, ...] | None
ROUND = 8
MOST_PADDED = 4
TIER_COSTS, MEMBER_COSTS = 512, 64
"""What a further product costs, and an adapter in it, in units of the first: they decide speed, never an answer."""
D = TypeVar("D", bound=nn.Module)


@dataclass(frozen=True)
class Route:
    """Which adapter each row of a batch belongs to; None for the bare backbone."""

    names: tuple[str | None, ...]
    _parts: dict[object, list[Part]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, names: Iterable[str | None]) -> Route:
        """A route from one name (or None) a row, in any order."""
        return cls(tuple(names))

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _numbers(self) -> dict[str | None, list[int]]:
        """The rows of each name, in the order in which names first appear."""
        found: dict[str | None, list[int]] = {}
        for row, name in enumerate(self.names):
            found.setdefault(name, []).append(row)
        return found

    def needs_output(self, deltas: Mapping[str, Delta]) -> bool:
        """Whether what a site's frozen part puts out is looked at, by a delta or for a row without one."""
        return any(name not in deltas or deltas[name].reads_output for name in self._numbers)  # type: ignore[index]

    @property
    def grouped(self) -> set[str]:
        """Names whose deltas ran at once with another's at some site that the route has met."""
        groups = (part.adapters for parts in self._parts.values() for part in parts)
        return {name for adapters in groups if len(adapters) > 1 for name in adapters}

    def parts(self, deltas: Mapping[str, Delta], mode: Mode, sizes: Sizes = None) -> list[Part]:
        """The rows that have a delta at a site, parted by adapter (looped) or by kind of delta (grouped)."""
        here = {name: deltas[name] for name in self._numbers if name in deltas}  # type: ignore[index]
        kinds = (mode, sizes, torch.is_grad_enabled(), *here, *[delta.stack_key for delta in here.values()])
        if kinds not in self._parts:
            groups: dict[object, list[str]] = {}
            for name, delta in here.items():
                groups.setdefault(name if mode == "looped" else delta.stack_key, []).append(str(name))
            parts = [self._part(names, here, sizes) for names in groups.values()]
            if mode == "auto":
                parts = [own for part in parts for own in self._fastest(part, here, sizes)]
            self._parts[kinds] = parts
        return self._parts[kinds]

    def _fastest(self, part: Part, deltas: Mapping[str | None, Delta], sizes: Sizes) -> list[Part]:
        return [self._part([name], deltas, sizes) for name in part.adapters] if loops(part, deltas) else [part]

    def _part(self, names: Sequence[str], deltas: Mapping[str | None, Delta], sizes: Sizes) -> Part:
        is_trained = any(deltas[name].is_trained for name in names)
        return Part.of([(name, self._numbers[name]) for name in names], sizes or (1,) * len(self), is_trained)


def loops(part: Part, deltas: Mapping[str | None, Delta]) -> bool:
    """Whether the adapters of a part are faster one after another than at once.

    Where torch has a kernel for one adapter only (LayerNorms on a CPU) it always serves: another formula would round
    otherwise, and an answer would depend on the batch's company. Else, measured (benchmarks/routing.py): in training,
    where adapters have unequally many rows; in answering, where most of what is computed at once would be padding.
    """
    delta = deltas[part.names[0]]
    if delta.loops and next(delta.parameters()).device.type == "cpu":
        return True
    if torch.is_grad_enabled():
        return delta.loops or not part.is_even
    return sum(tier.size for tier in part.tiers) > MOST_PADDED * sum(part.counts)


@dataclass(frozen=True)
class Part:
    """Rows that one call of a formula serves, the adapter of each, and how many units of a tensor each row takes.

    A unit is a row of ``[B, T, D]``, or where texts are packed a token of ``[N, 1, D]``.
    """

    units: Rows
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    is_trained: bool

    @classmethod
    def of(cls, adapters: Sequence[tuple[str, list[int]]], sizes: Sequence[int], is_trained: bool) -> Part:
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
    def tiers(self) -> tuple[Tier, ...]:
        """The products that cost least: one of so many units of each adapter, others of what some have beyond that.

        A product is as long as its longest adapter: of few adapters with many units the others need not bear all.
        """
        levels = [0, *sorted({rounded(count) for count in self.counts})]
        above = [tuple(k for k, count in enumerate(self.counts) if count > level) for level in levels]
        cheapest: list[tuple[int, tuple[Tier, ...]]] = [(0, ())] * len(levels)  # of what stands above each level
        for low in reversed(range(len(levels) - 1)):
            more = TIER_COSTS + MEMBER_COSTS * len(above[low]) if low else 0
            costs = {
                high: more + len(above[low]) * (levels[high] - levels[low]) + cheapest[high][0]
                for high in range(low + 1, len(levels))
            }
            high = min(costs, key=costs.__getitem__)
            cheapest[low] = costs[high], (Tier(above[low], levels[high] - levels[low], low == 0), *cheapest[high][1])
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
class Tier:
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


class Stacks:
    """The deltas that a site stacked last, kept while no gradients are asked for.

    Batches of the same tasks follow each other: then nothing is copied. At most one stack is kept for each kind of
    delta, so that memory follows the adapters in a batch, not the hundreds that are loaded.
    """

    def __init__(self) -> None:
        self._kept: dict[object, tuple[tuple[int, ...], torch.dtype, Delta]] = {}

    def of(self, deltas: Sequence[Delta], dtype: torch.dtype, *, is_trained: bool) -> Delta:
        """Deltas with equal keys as one, its parameters ``[K, …]``; matrices in ``dtype`` where it is kept."""
        if is_trained:
            return with_parameters(deltas[0], stack(deltas))
        which, key = tuple(map(id, deltas)), deltas[0].stack_key
        kept = self._kept.get(key)
        if kept is None or kept[:2] != (which, dtype):
            made = {name: p.to(dtype) if p.dim() > 2 else p for name, p in stack(deltas).items()}
            kept = self._kept[key] = (which, dtype, with_parameters(deltas[0], made))
        return kept[2]

    def clear(self) -> None:
        """Forget them: an adapter has left."""
        self._kept.clear()


def apply(
    route: Route,
    deltas: Mapping[str, Delta],
    x: Tensor,
    y: Tensor,
    base: nn.Module,
    noise: Noise,
    site: str,
    mode: Mode,
    stacks: Stacks,
    sizes: Sizes = None,
) -> Tensor:
    """The output of a site after each row met its own adapter's delta.

    Args:
        route: the adapter of each of the B rows.
        deltas: the deltas at this site by adapter.
        x: what went in, ``[B, T, I]``, or packed ``[N, 1, I]``.
        y: what the frozen part put out, ``[B, T, O]`` or ``[N, 1, O]``.
        base: the frozen part.
        noise: the source of dropout, for deltas that drop.
        site: the site's name, part of the dropout's key.
        mode: how rows are parted.
        stacks: where stacked parameters are kept between batches.
        sizes: how many of N each row takes, where rows are packed.

    Returns:
        A tensor of ``y``'s shape; rows without a delta here are those of ``y``.
    """
    num_rows = len(y if sizes is None else sizes)
    if len(route) != num_rows:
        raise RouteError(f"a route of {len(route)} rows meets a batch of {num_rows}: give one name a row")
    parts = route.parts(deltas, mode, sizes)
    if not parts:
        return y
    rates = {deltas[part.names[0]].dropout for part in parts}
    dropped = {rate: noise.drop(x, rate, f"{site}.delta") for rate in rates}
    if len(parts) == 1 and parts[0].units == slice(0, len(y)):
        return run(parts[0], deltas, dropped[deltas[parts[0].names[0]].dropout], y, base, stacks)
    if all(isinstance(part.units, slice) for part in parts):
        return _in_slices(parts, deltas, dropped, y, base, stacks)
    inputs = [(dropped[deltas[part.names[0]].dropout][part.units], y[part.units]) for part in parts]
    outs = [run(part, deltas, *given, base, stacks) for part, given in zip(parts, inputs)]
    units = torch.cat([torch.arange(len(y))[part.units] for part in parts]).to(y.device)
    return y.index_copy(0, units, torch.cat(outs))


def _in_slices(
    parts: Sequence[Part],
    deltas: Mapping[str, Delta],
    dropped: Mapping[float, Tensor],
    y: Tensor,
    base: nn.Module,
    stacks: Stacks,
) -> Tensor:
    """Parts of consecutive rows: one split and one concatenation, so that gradients are not padded for each part."""
    after: dict[int, Part] = {part.units.start: part for part in parts}  # type: ignore[union-attr]
    ends = {start: part.units.stop for start, part in after.items()}  # type: ignore[union-attr]
    cuts = sorted({0, len(y), *after, *ends.values()})
    sizes = [stop - start for start, stop in itertools.pairwise(cuts)]
    pieces = dict(zip(cuts, y.split(sizes)))
    inputs = {rate: dict(zip(cuts, x.split(sizes))) for rate, x in dropped.items()}
    for start, part in after.items():
        x = inputs[deltas[part.names[0]].dropout][start]
        pieces[start] = run(part, deltas, x, pieces[start], base, stacks)
    return torch.cat(list(pieces.values()))


def run(part: Part, deltas: Mapping[str, Delta], x: Tensor, y: Tensor, base: nn.Module, stacks: Stacks) -> Tensor:
    """One call of the formula for a part; ``x`` and ``y`` are its units only.

    The units of an adapter become one long row of it, ``[K, L, D]``, where some have fewer than others with something
    behind them that nobody reads. Where parameters are but vectors, each unit has its own, ``[units, D]``.
    """
    num_adapters, delta = len(part.adapters), deltas[part.names[0]]
    if num_adapters == 1:
        return delta.forward(x, y, base)
    stacked = stacks.of([deltas[name] for name in part.adapters], y.dtype, is_trained=part.is_trained)
    if part.is_even:
        long = [tensor.reshape(num_adapters, -1, tensor.shape[-1]) for tensor in (x, y)]
        return stacked.forward(long[0], long[1], base).reshape(y.shape)
    tensors = tensors_of(stacked)
    if all(tensor.dim() == 2 for tensor in tensors.values()):
        own = {name: tensor.index_select(0, part.which.to(y.device)) for name, tensor in tensors.items()}
        return with_parameters(stacked, own).forward(x, y, base)
    places, units = (index.to(y.device) for index in part.places)
    sizes = [tier.size for tier in part.tiers]
    wide_y = y.index_select(0, units).split(sizes)
    wide_x = x.index_select(0, units).split(sizes) if delta.reads_input else wide_y
    outs = []
    for tier, *wide in zip(part.tiers, wide_x, wide_y):
        long = [tensor.view(len(tier.adapters), -1, tensor.shape[-1]) for tensor in wide]
        outs.append(tier.of(stacked).forward(long[0], long[1], base).flatten(0, 1))
    out = outs[0] if len(outs) == 1 else torch.cat(outs)
    return out.view(-1, *y.shape[1:-1], out.shape[-1]).index_select(0, places)


def tensors_of(delta: nn.Module) -> dict[str, Tensor]:
    """What stands where a delta has parameters, by dotted name."""
    own = {name: tensor for name, tensor in delta._parameters.items() if tensor is not None}
    below = {
        f"{name}.{k}": v for name, module in delta._modules.items() if module for k, v in tensors_of(module).items()
    }
    return {**own, **below}


def with_parameters(delta: D, tensors: Mapping[str, Tensor]) -> D:
    """The same formula with these tensors where ``delta`` has parameters; it stays as it is."""
    other = copy.copy(delta)
    own = {name: tensors[name] for name in delta._parameters if name in tensors}
    below = {
        name: module
        and with_parameters(module, {k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(name + ".")})
        for name, module in delta._modules.items()
    }
    other.__dict__.update(_parameters=own, _modules=below)
    return other


def stack(deltas: Sequence[Delta]) -> dict[str, Tensor]:
    """Parameters of deltas with equal keys as ``[K, …]``, padded with zeros to their stack shapes."""
    shapes = deltas[0].stack_shapes()
    trees = [tensors_of(delta) for delta in deltas]
    return {name: torch.stack([padded(tree[name], shape) for tree in trees]) for name, shape in shapes.items()}


def padded(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``tensor`` with zeros behind each dimension up to ``shape``."""
    if tuple(tensor.shape) == shape:
        return tensor
    behind = [amount for have, want in zip(tensor.shape, shape, strict=True) for amount in (want - have, 0)]
    return F.pad(tensor, behind[::-1])
