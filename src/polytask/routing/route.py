"""Which adapter each row of a batch belongs to, and how its rows are grouped at a site."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch

from polytask.methods.delta import Delta
from polytask.routing.groups import Group, Sizes

Mode = Literal["looped", "grouped", "auto"]
MOST_PADDED = 4


@dataclass(frozen=True)
class Route:
    """Which adapter each row of a batch belongs to; None for the bare backbone."""

    names: tuple[str | None, ...]
    _parts: dict[object, list[Group]] = field(default_factory=dict, compare=False, repr=False)

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

    def parts(self, deltas: Mapping[str, Delta], mode: Mode, sizes: Sizes = None) -> list[Group]:
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

    def _fastest(self, part: Group, deltas: Mapping[str | None, Delta], sizes: Sizes) -> list[Group]:
        return [self._part([name], deltas, sizes) for name in part.adapters] if loops(part, deltas) else [part]

    def _part(self, names: Sequence[str], deltas: Mapping[str | None, Delta], sizes: Sizes) -> Group:
        is_trained = any(deltas[name].is_trained for name in names)
        return Group.of([(name, self._numbers[name]) for name in names], sizes or (1,) * len(self), is_trained)


def loops(part: Group, deltas: Mapping[str | None, Delta]) -> bool:
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
