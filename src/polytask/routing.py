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
    def rows(self) -> dict[str | None, Rows]:
        """The rows of each name, in the order in which names first appear."""
        return {name: as_rows(rows) for name, rows in self._numbers.items()}

    @cached_property
    def _numbers(self) -> dict[str | None, list[int]]:
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

    def parts(self, deltas: Mapping[str, Delta], mode: Mode) -> list[Part]:
        """The rows that have a delta at a site, parted by adapter (looped) or by kind of delta (grouped)."""
        here = {name: deltas[name] for name in self._numbers if name in deltas}  # type: ignore[index]
        kinds = (mode, torch.is_grad_enabled(), *((name, delta.stack_key) for name, delta in here.items()))
        if kinds not in self._parts:
            groups: dict[object, list[str]] = {}
            for name, delta in here.items():
                groups.setdefault(name if mode == "looped" else delta.stack_key, []).append(str(name))
            self._parts[kinds] = [
                Part.of([(name, self._numbers[name]) for name in names])
                for group in groups.values()
                for names in (self._split(group, here) if mode == "auto" else [group])
            ]
        return self._parts[kinds]

    def _split(self, group: list[str], deltas: Mapping[str | None, Delta]) -> list[list[str]]:
        """A group as it is where running it at once is the faster way, else one part for each adapter.

        Measured (benchmarks/routing.py): at once where all have equally many rows side by side, so that no weights
        are copied, or where there are so few rows each that copying weights costs less than another call.
        """
        if deltas[group[0]].loops and torch.is_grad_enabled():
            return [[name] for name in group]
        counts = [len(self._numbers[name]) for name in group]
        is_even = min(counts) == max(counts) and all(isinstance(self.rows[name], slice) for name in group)
        return [group] if is_even or sum(counts) < 2 * len(group) else [[name] for name in group]


@dataclass(frozen=True)
class Part:
    """Rows that one call of a formula serves, and the adapter of each of them."""

    rows: Rows
    names: tuple[str, ...]

    @classmethod
    def of(cls, adapters: Sequence[tuple[str, list[int]]]) -> Part:
        """The rows of some adapters, in the order of the batch."""
        pairs = sorted((row, name) for name, rows in adapters for row in rows)
        return cls(as_rows([row for row, _ in pairs]), tuple(name for _, name in pairs))

    @cached_property
    def adapters(self) -> tuple[str, ...]:
        """The adapters in it, each once, in the order of their rows."""
        return tuple(dict.fromkeys(self.names))

    @cached_property
    def is_even(self) -> bool:
        """Whether each adapter has equally many rows, side by side."""
        size, rest = divmod(len(self.names), len(self.adapters))
        return rest == 0 and all(self.names[row] == self.names[row - row % size] for row in range(len(self.names)))


def as_rows(rows: Sequence[int]) -> Rows:
    """A slice where the rows are consecutive, else their numbers as a tensor."""
    if list(rows) == list(range(rows[0], rows[0] + len(rows))):
        return slice(rows[0], rows[0] + len(rows))
    return torch.tensor(rows)


class Stacks:
    """The deltas that a site stacked last, kept while no gradients are asked for.

    Batches of the same tasks follow each other: then nothing is copied. At most one stack is kept for each kind of
    delta, so that memory follows the adapters in a batch, not the hundreds that are loaded.
    """

    def __init__(self) -> None:
        self._kept: dict[object, tuple[tuple[int, ...], torch.dtype, Delta]] = {}

    def of(self, deltas: Sequence[Delta], dtype: torch.dtype) -> Delta:
        """Deltas with equal keys as one, its parameters ``[K, …]``; matrices in ``dtype`` where it is kept."""
        if any(delta.is_trained for delta in deltas):
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
) -> Tensor:
    """The output of a site after each row met its own adapter's delta.

    Args:
        route: the adapter of each of the B rows.
        deltas: the deltas at this site by adapter.
        x: what went in, ``[B, T, I]``.
        y: what the frozen part put out, ``[B, T, O]``.
        base: the frozen part.
        noise: the source of dropout, for deltas that drop.
        site: the site's name, part of the dropout's key.
        mode: how rows are parted.
        stacks: where stacked parameters are kept between batches.

    Returns:
        ``[B, T, O]``; rows without a delta here are those of ``y``.
    """
    if len(route) != len(y):
        raise RouteError(f"a route of {len(route)} rows meets a batch of {len(y)}: give one name a row")
    parts = route.parts(deltas, mode)
    if not parts:
        return y
    rates = {deltas[part.names[0]].dropout for part in parts}
    dropped = {rate: noise.drop(x, rate, f"{site}.delta") for rate in rates}
    if len(parts) == 1 and parts[0].rows == slice(0, len(y)):
        return run(parts[0], deltas, dropped[deltas[parts[0].names[0]].dropout], y, base, stacks)
    if all(isinstance(part.rows, slice) for part in parts):
        return _in_slices(parts, deltas, dropped, y, base, stacks)
    inputs = [(dropped[deltas[part.names[0]].dropout][part.rows], y[part.rows]) for part in parts]
    outs = [run(part, deltas, *given, base, stacks) for part, given in zip(parts, inputs)]
    rows = torch.cat([torch.arange(len(y))[part.rows] for part in parts]).to(y.device)
    return y.index_copy(0, rows, torch.cat(outs))


def _in_slices(
    parts: Sequence[Part],
    deltas: Mapping[str, Delta],
    dropped: Mapping[float, Tensor],
    y: Tensor,
    base: nn.Module,
    stacks: Stacks,
) -> Tensor:
    """Parts of consecutive rows: one split and one concatenation, so that gradients are not padded for each part."""
    after: dict[int, Part] = {part.rows.start: part for part in parts}  # type: ignore[union-attr]
    ends = {start: part.rows.stop for start, part in after.items()}  # type: ignore[union-attr]
    cuts = sorted({0, len(y), *after, *ends.values()})
    sizes = [stop - start for start, stop in itertools.pairwise(cuts)]
    pieces = dict(zip(cuts, y.split(sizes)))
    inputs = {rate: dict(zip(cuts, x.split(sizes))) for rate, x in dropped.items()}
    for start, part in after.items():
        x = inputs[deltas[part.names[0]].dropout][start]
        pieces[start] = run(part, deltas, x, pieces[start], base, stacks)
    return torch.cat(list(pieces.values()))


def run(part: Part, deltas: Mapping[str, Delta], x: Tensor, y: Tensor, base: nn.Module, stacks: Stacks) -> Tensor:
    """One call of the formula for a part; ``x`` and ``y`` are its rows only."""
    num_adapters = len(part.adapters)
    if num_adapters == 1:
        return deltas[part.names[0]].forward(x, y, base)
    stacked = stacks.of([deltas[name] for name in part.adapters], y.dtype)
    if part.is_even:  # [B, T, D] as [K, B/K * T, D]: an adapter's rows as one long one, no weights copied
        long = [tensor.reshape(num_adapters, -1, tensor.shape[-1]) for tensor in (x, y)]
        return stacked.forward(long[0], long[1], base).reshape(y.shape)
    number = {name: k for k, name in enumerate(part.adapters)}
    rows = torch.tensor([number[name] for name in part.names], device=y.device)
    of_rows = {name: parameter[rows] for name, parameter in tensors_of(stacked).items()}
    return with_parameters(stacked, of_rows).forward(x, y, base)


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
    trees = [dict(delta.named_parameters()) for delta in deltas]
    return {name: torch.stack([padded(tree[name], shape) for tree in trees]) for name, shape in shapes.items()}


def padded(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``tensor`` with zeros behind each dimension up to ``shape``."""
    if tuple(tensor.shape) == shape:
        return tensor
    behind = [amount for have, want in zip(tensor.shape, shape, strict=True) for amount in (want - have, 0)]
    return F.pad(tensor, behind[::-1])
