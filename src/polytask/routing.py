"""Where a batch's rows meet their adapters.

Two ways to apply deltas, one truth. *Looped*: each adapter's delta runs on its own rows. *Grouped*: deltas of one
kind run at once, their parameters stacked and taken row by row. Both call the same formula, with parameters of
``[…]`` or of ``[B, …]``, and differ only in how rows are parted.

Nothing here depends on adapters that are not in the batch: adding or removing one leaves the others' bits alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from polytask.errors import RouteError
from polytask.methods.seam import Delta
from polytask.noise import Noise

Mode = Literal["looped", "grouped", "auto"]
Rows = slice | Tensor


@dataclass(frozen=True)
class Route:
    """Which adapter each row of a batch belongs to; None for the bare backbone."""

    names: tuple[str | None, ...]

    @classmethod
    def of(cls, names: Iterable[str | None]) -> Route:
        """A route from one name (or None) a row, in any order."""
        return cls(tuple(names))

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def rows(self) -> dict[str | None, Rows]:
        """The rows of each name, in the order in which names first appear."""
        found: dict[str | None, list[int]] = {}
        for row, name in enumerate(self.names):
            found.setdefault(name, []).append(row)
        return {name: as_rows(rows) for name, rows in found.items()}


def as_rows(rows: Sequence[int]) -> Rows:
    """A slice where the rows are consecutive, else their numbers as a tensor."""
    if rows[-1] - rows[0] == len(rows) - 1 and list(rows) == list(range(rows[0], rows[-1] + 1)):
        return slice(rows[0], rows[-1] + 1)
    return torch.tensor(rows)


@dataclass(frozen=True)
class Part:
    """Rows that one call of a formula serves, and the adapter of each of them."""

    rows: Rows
    names: tuple[str, ...]

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters in it, each once."""
        return tuple(dict.fromkeys(self.names))


def parts_of(route: Route, deltas: Mapping[str, Delta], mode: Mode) -> list[Part]:
    """The rows that have a delta here, parted by adapter (looped) or by kind of delta (grouped)."""
    groups: dict[object, list[int]] = {}
    for row, name in enumerate(route.names):
        if name is not None and name in deltas:
            groups.setdefault(name if mode == "looped" else stack_key(deltas[name]), []).append(row)
    return [Part(as_rows(rows), tuple(str(route.names[row]) for row in rows)) for rows in groups.values()]


def stack_key(delta: Delta) -> tuple[object, ...]:
    """Deltas with equal keys can be stacked."""
    return (delta.kind, tuple(delta.stack_shapes().items()))


def apply(
    route: Route, deltas: Mapping[str, Delta], x: Tensor, y: Tensor, base: nn.Module, noise: Noise, site: str, mode: Mode
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

    Returns:
        ``[B, T, O]``; rows without a delta here are those of ``y``.
    """
    if len(route) != len(y):
        raise RouteError(f"a route of {len(route)} rows meets a batch of {len(y)}: give one name a row")
    parts = parts_of(route, deltas, mode)
    if not parts:
        return y
    outs = []
    for part in parts:
        x_part = noise.drop(x, deltas[part.names[0]].dropout, f"{site}.delta")
        if part.rows == slice(0, len(y)):
            return run(part, deltas, x_part, y, base)
        outs.append(run(part, deltas, x_part[part.rows], y[part.rows], base))
    return joined(y, parts, outs)


def joined(y: Tensor, parts: Sequence[Part], outs: Sequence[Tensor]) -> Tensor:
    """``y`` with the rows of each part replaced by its output."""
    if all(isinstance(part.rows, slice) for part in parts):
        pieces, end = [], 0
        for part, out in sorted(zip(parts, outs, strict=True), key=lambda pair: pair[0].rows.start):  # type: ignore[union-attr]
            pieces += [y[end : part.rows.start], out]  # type: ignore[union-attr]
            end = part.rows.stop  # type: ignore[union-attr]
        return torch.cat([piece for piece in [*pieces, y[end:]] if len(piece)])
    rows = torch.cat([_numbers(part.rows, y.device) for part in parts])
    return y.index_copy(0, rows, torch.cat(list(outs)))


def _numbers(rows: Rows, device: torch.device) -> Tensor:
    if isinstance(rows, slice):
        return torch.arange(rows.start, rows.stop, device=device)
    return rows.to(device)


def run(part: Part, deltas: Mapping[str, Delta], x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
    """One call of the formula for a part; ``x`` and ``y`` are its rows only."""
    adapters = part.adapters
    first = deltas[adapters[0]]
    if len(adapters) == 1:
        out: Tensor = first(x, y, base)
        return out
    stacked = stack([deltas[name] for name in adapters])
    number = {name: k for k, name in enumerate(adapters)}
    rows = torch.tensor([number[name] for name in part.names], device=y.device)
    taken = {name: parameter[rows] for name, parameter in stacked.items()}
    out = functional_call(first, taken, (x, y, base))
    return out


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
