"""Where a batch's rows meet their adapters.

Two ways to apply deltas, one truth. *Looped*: each adapter's delta runs on its own rows. *Grouped*: deltas of one
kind run at once, their parameters stacked. Both call the same formula, with parameters of ``[…]`` or of ``[B, …]``,
and differ only in how rows are parted.

Nothing here depends on adapters that are not in the batch: adding or removing one leaves the others' bits alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from polytask.dropout import KeyedDropoutSource
from polytask.errors import RouteError
from polytask.methods.delta import Delta
from polytask.routing.groups import Group, Sizes
from polytask.routing.route import Mode, Route
from polytask.routing.stacking import StackCache, tensors_of, with_parameters


def apply_deltas(
    route: Route,
    deltas: Mapping[str, Delta],
    x: Tensor,
    y: Tensor,
    base: nn.Module,
    dropout_source: KeyedDropoutSource,
    site: str,
    mode: Mode,
    stacks: StackCache,
    sizes: Sizes = None,
) -> Tensor:
    """The output of a site after each row met its own adapter's delta.

    Args:
        route: the adapter of each of the B rows.
        deltas: the deltas at this site by adapter.
        x: what went in, ``[B, T, I]``, or packed ``[N, 1, I]``.
        y: what the frozen part put out, ``[B, T, O]`` or ``[N, 1, O]``.
        base: the frozen part.
        dropout_source: the source of dropout, for deltas that drop.
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
    dropped = {rate: dropout_source.drop(x, rate, f"{site}.delta") for rate in rates}
    if len(parts) == 1 and parts[0].units == slice(0, len(y)):
        return run_group(parts[0], deltas, dropped[deltas[parts[0].names[0]].dropout], y, base, stacks)
    if all(isinstance(part.units, slice) for part in parts):
        return _apply_to_slices(parts, deltas, dropped, y, base, stacks)
    inputs = [(dropped[deltas[part.names[0]].dropout][part.units], y[part.units]) for part in parts]
    outs = [run_group(part, deltas, *given, base, stacks) for part, given in zip(parts, inputs)]
    units = torch.cat([torch.arange(len(y))[part.units] for part in parts]).to(y.device)
    return y.index_copy(0, units, torch.cat(outs))


def _apply_to_slices(
    parts: Sequence[Group],
    deltas: Mapping[str, Delta],
    dropped: Mapping[float, Tensor],
    y: Tensor,
    base: nn.Module,
    stacks: StackCache,
) -> Tensor:
    """Parts of consecutive rows: one split and one concatenation, so that gradients are not padded for each part."""
    after: dict[int, Group] = {part.units.start: part for part in parts}  # type: ignore[union-attr]
    ends = {start: part.units.stop for start, part in after.items()}  # type: ignore[union-attr]
    cuts = sorted({0, len(y), *after, *ends.values()})
    sizes = [stop - start for start, stop in itertools.pairwise(cuts)]
    pieces = dict(zip(cuts, y.split(sizes)))
    inputs = {rate: dict(zip(cuts, x.split(sizes))) for rate, x in dropped.items()}
    for start, part in after.items():
        x = inputs[deltas[part.names[0]].dropout][start]
        pieces[start] = run_group(part, deltas, x, pieces[start], base, stacks)
    return torch.cat(list(pieces.values()))


def run_group(
    part: Group, deltas: Mapping[str, Delta], x: Tensor, y: Tensor, base: nn.Module, stacks: StackCache
) -> Tensor:
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
