"""Routes: the adapter of each row of a batch, and how the rows are grouped at a site."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch

from polytask.methods.delta import Delta
from polytask.routing.groups import Group, Sizes

Mode = Literal["looped", "grouped", "auto"]
MAX_PADDING = {"cpu": 128}
MAX_PADDING_ELSEWHERE = 1024
"""Padding an adapter, in units, up to which adapters run together in inference: more costs more than single calls."""
MAX_STACKED_UNITS = 40
"""Units an adapter up to which LayerNorms run together in inference (benchmarks/looped_norms.py)."""


@dataclass(frozen=True)
class Route:
    """The adapter of each row of a batch; None for the backbone without an adapter."""

    names: tuple[str | None, ...]
    _groups: dict[object, list[Group]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, names: Iterable[str | None]) -> Route:
        """A route from one name (or None) a row, in any order; names may recur."""
        return cls(tuple(names))

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _rows_of(self) -> dict[str | None, list[int]]:
        """The rows of each name, in order of first appearance."""
        found: dict[str | None, list[int]] = {}
        for row, name in enumerate(self.names):
            found.setdefault(name, []).append(row)
        return found

    @property
    def distinct(self) -> Collection[str | None]:
        """Each name once."""
        return self._rows_of.keys()

    def needs_output(self, deltas: Mapping[str, Delta]) -> bool:
        """Whether a site's frozen output is needed: by a delta, or for a row without one."""
        return any(name not in deltas or deltas[name].reads_output for name in self._rows_of)  # type: ignore[index]

    @property
    def grouped(self) -> set[str]:
        """Names whose deltas ran together with another's at some site so far."""
        groups = (group.adapters for groups in self._groups.values() for group in groups)
        return {name for adapters in groups if len(adapters) > 1 for name in adapters}

    def groups(self, deltas: Mapping[str, Delta], mode: Mode, sizes: Sizes = None) -> list[Group]:
        """The rows that have a delta at a site, grouped by adapter (looped) or by kind of delta (grouped).

        Args:
            deltas: the deltas at the site, by adapter.
            mode: ``looped``, ``grouped``, or ``auto`` for the faster one.
            sizes: the number of packed tokens of each row; None if rows are not packed.
        """
        here = {name: deltas[name] for name in self._rows_of if name in deltas}  # type: ignore[index]
        kinds = (mode, sizes, torch.is_grad_enabled(), *here, *[delta.stack_key for delta in here.values()])
        if kinds not in self._groups:
            names_of: dict[object, list[str]] = {}
            for name, delta in here.items():
                names_of.setdefault(name if mode == "looped" else delta.stack_key, []).append(str(name))
            groups = [self._group(names, here, sizes) for names in names_of.values()]
            if mode == "auto":
                groups = [own for group in groups for own in self._split_if_faster(group, here, sizes)]
            self._groups[kinds] = groups
        return self._groups[kinds]

    def _split_if_faster(self, group: Group, deltas: Mapping[str | None, Delta], sizes: Sizes) -> list[Group]:
        if not prefers_loop(group, deltas):
            return [group]
        return [self._group([name], deltas, sizes) for name in group.adapters]

    def _group(self, names: Sequence[str], deltas: Mapping[str | None, Delta], sizes: Sizes) -> Group:
        is_trained = any(deltas[name].is_trained for name in names)
        return Group.of([(name, self._rows_of[name]) for name in names], sizes or (1,) * len(self), is_trained)


def prefers_loop(group: Group, deltas: Mapping[str | None, Delta]) -> bool:
    """Whether to run the adapters of a group one after another instead of together.

    This affects speed only (benchmarks/routing.py). LayerNorms on a CPU, for which torch has a kernel for one adapter
    only, are looped in training and for adapters with many units. Others are looped in training if adapters have
    different numbers of units, and in inference if there would be much padding.
    """
    delta, num_units = deltas[group.names[0]], sum(group.counts)
    device = next(delta.parameters()).device.type
    if delta.prefers_loop and device == "cpu":
        return torch.is_grad_enabled() or num_units > MAX_STACKED_UNITS * len(group.counts)
    if torch.is_grad_enabled():
        return not group.is_even
    most = MAX_PADDING.get(device, MAX_PADDING_ELSEWHERE)
    return sum(tile.size for tile in group.tiles) - num_units > most * len(group.counts)
