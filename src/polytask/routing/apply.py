"""Applies each row's adapter to a batch.

There are two ways to apply deltas. *Looped*: each adapter's delta runs on its own rows. *Grouped*: deltas of one kind
run together, their parameters stacked. Both call the same formula, with parameters of ``[…]`` or of ``[K, …]``, and
differ only in how the rows are divided into groups.

The output does not depend on adapters that are not in the batch: adding or removing one changes no bit of the others'.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from polytask.dropout import KeyedDropoutSource
from polytask.errors import RouteError
from polytask.methods.delta import AdditiveDelta, Delta
from polytask.routing.groups import Group, Layout, Sizes
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
    """The output of a site, with each row's own delta applied.

    Args:
        route: the adapter of each of the ``B`` rows.
        deltas: the deltas at this site, by adapter.
        x: the input of the frozen part, ``[B, T, I]``, or packed ``[N, 1, I]``.
        y: its output, ``[B, T, O]`` or ``[N, 1, O]``.
        base: the frozen part.
        dropout_source: the dropout masks, for deltas with dropout.
        site: the name of the site, a part of the dropout key.
        mode: how rows are divided into groups.
        stacks: the cache of stacked parameters.
        sizes: the number of packed tokens of each row; None if rows are not packed.

    Returns:
        A tensor of the shape of ``y``; rows without a delta here are unchanged.

    Raises:
        RouteError: the route and the batch differ in their number of rows.
    """
    num_rows = len(y if sizes is None else sizes)
    if len(route) != num_rows:
        raise RouteError(f"a route of {len(route)} rows meets a batch of {num_rows}: give one name per row")
    groups = route.groups(deltas, mode, sizes)
    if not groups:
        return y
    rates = {deltas[group.names[0]].dropout for group in groups}
    dropped = {rate: dropout_source.drop(x, rate, f"{site}.delta", is_backbone=False) for rate in rates}
    if len(groups) == 1 and groups[0].units == slice(0, len(y)):
        return apply_group(groups[0], deltas, dropped[deltas[groups[0].names[0]].dropout], y, base, stacks)
    if all(isinstance(group.units, slice) for group in groups):
        return _apply_to_slices(groups, deltas, dropped, y, base, stacks)
    of_groups = [group.units_on(y.device) for group in groups]
    inputs = [(dropped[deltas[group.names[0]].dropout][own], y[own]) for group, own in zip(groups, of_groups)]
    outs = [apply_group(group, deltas, *given, base, stacks) for group, given in zip(groups, inputs)]
    units = torch.cat([torch.arange(len(y), device=y.device)[own] for own in of_groups])
    return y.index_copy(0, units, torch.cat(outs))


def _apply_to_slices(
    groups: Sequence[Group],
    deltas: Mapping[str, Delta],
    dropped: Mapping[float, Tensor],
    y: Tensor,
    base: nn.Module,
    stacks: StackCache,
) -> Tensor:
    """For groups of consecutive rows: one split and one concatenation, so gradients are not padded for each group."""
    after: dict[int, Group] = {group.units.start: group for group in groups}  # type: ignore[union-attr]
    ends = {start: group.units.stop for start, group in after.items()}  # type: ignore[union-attr]
    cuts = sorted({0, len(y), *after, *ends.values()})
    sizes = [stop - start for start, stop in itertools.pairwise(cuts)]
    pieces = dict(zip(cuts, y.split(sizes)))
    inputs = {rate: dict(zip(cuts, x.split(sizes))) for rate, x in dropped.items()}
    for start, group in after.items():
        x = inputs[deltas[group.names[0]].dropout][start]
        pieces[start] = apply_group(group, deltas, x, pieces[start], base, stacks)
    return torch.cat(list(pieces.values()))


def apply_group(
    group: Group, deltas: Mapping[str, Delta], x: Tensor, y: Tensor, base: nn.Module, stacks: StackCache
) -> Tensor:
    """Apply a group's deltas together, with their parameters stacked.

    If all adapters have equally many units, each adapter's units are one row of ``[K, L, D]``. If all parameters are
    vectors, each unit gets its own from the stack, ``[units, D]``. Else units are copied into tiles.

    Args:
        x, y: input and output of the frozen part, for the group's units only.
    """
    num_adapters, delta = len(group.adapters), deltas[group.names[0]]
    if num_adapters == 1:
        return delta.forward(x, y, base)
    own = [deltas[name] for name in group.adapters]
    stack = stacks.get(own, y.dtype, is_trained=group.is_trained, is_exact=group.is_even)
    if group.is_even:
        long = [tensor.reshape(num_adapters, -1, tensor.shape[-1]) for tensor in (x, y)]
        return stack.delta.forward(long[0], long[1], base).reshape(y.shape)
    positions, tensors = stack.positions_of(own), tensors_of(stack.delta)
    if all(tensor.dim() == 2 for tensor in tensors.values()):
        index = group.stack_index(positions, y.device)
        of_units = {name: tensor.index_select(0, index) for name, tensor in tensors.items()}
        return with_parameters(stack.delta, of_units).forward(x, y, base)
    layout = group.layout(positions, len(stack.members), y.device)
    if isinstance(delta, AdditiveDelta):
        inputs = [x if delta.reads_input else y]
        return y + _in_tiles(layout, stack.delta, inputs, lambda stacked, h: stacked.change(h))
    return _in_tiles(layout, stack.delta, [x, y], lambda stacked, x, y: stacked.forward(x, y, base))


def _in_tiles(layout: Layout, stacked: Delta, inputs: Sequence[Tensor], formula: Callable[..., Tensor]) -> Tensor:
    """The output of a formula for a group's units, computed tile by tile.

    Each adapter's units are a row of its tile, ``[K, L, D]``. Shorter rows are filled up with other units, whose output
    is not used.

    Args:
        layout: where the units are in the tiles.
        stacked: the stacked delta.
        inputs: the inputs of the formula, for the group's units.
        formula: computes a tile's output from the stacked delta of its adapters and the inputs of its units.
    """
    sizes = [tile.size for tile in layout.tiles]
    wide = [tensor.index_select(0, layout.units).split(sizes) for tensor in inputs]
    outs = []
    for tile, *parts in zip(layout.tiles, *wide):
        long = [part.view(tile.num_rows, -1, part.shape[-1]) for part in parts]
        outs.append(formula(tile.select(stacked), *long).flatten(0, 1))
    out = outs[0] if len(outs) == 1 else torch.cat(outs)
    return out.view(-1, *inputs[0].shape[1:-1], out.shape[-1]).index_select(0, layout.places)
