"""Stacks the parameters of several deltas along a leading dimension, and caches the stacks between batches."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.methods.delta import Delta

D = TypeVar("D", bound=nn.Module)


MAX_STACK_RATIO = 1.25
"""The number of adapters in a stack over those in the batch, at most: the others are computed for nothing."""


@dataclass(frozen=True)
class Stack:
    """Deltas with equal keys, stacked.

    Attributes:
        members: the deltas, which stay alive with the stack, so no other has their ids.
        delta: one delta with the parameters of all, ``[K, …]``.
        dtype: the type of its matrices; None for deltas that train.
    """

    members: tuple[Delta, ...]
    delta: Delta
    dtype: torch.dtype | None = None

    @cached_property
    def positions(self) -> dict[int, int]:
        """The position of each delta, by its id."""
        return {id(delta): position for position, delta in enumerate(self.members)}

    def positions_of(self, deltas: Sequence[Delta]) -> tuple[int, ...]:
        """The positions of these deltas."""
        return tuple(self.positions[id(delta)] for delta in deltas)

    def serves(self, deltas: Sequence[Delta], dtype: torch.dtype, *, is_exact: bool) -> bool:
        """Whether a batch with these deltas can use this stack: it has them, and few others."""
        if self.dtype != dtype:
            return False
        if is_exact:
            return tuple(map(id, deltas)) == tuple(self.positions)
        has_few_others = len(self.members) <= MAX_STACK_RATIO * len(deltas)
        return has_few_others and all(id(delta) in self.positions for delta in deltas)


class StackCache:
    """The last stack of each kind of delta at a site, for deltas that do not train.

    A stack also serves batches that lack some of its adapters. So once it has all tasks that come, tasks that change
    from batch to batch copy nothing, if there are not many more of them than in one batch. One stack of each kind is
    kept, and one for batches that need an exact one: memory grows with the adapters in a batch, not with the loaded
    ones.
    """

    def __init__(self) -> None:
        self._stacks: dict[object, Stack] = {}
        self._tensors: dict[int, tuple[Delta, dict[str, Tensor]]] = {}

    def get(self, deltas: Sequence[Delta], dtype: torch.dtype, *, is_trained: bool, is_exact: bool) -> Stack:
        """A stack that has these deltas, which have equal keys.

        Args:
            deltas: the deltas of a batch.
            dtype: the type of the matrices, unless the deltas train.
            is_trained: whether the deltas train; their stack is not kept.
            is_exact: whether the stack must have these deltas in this order and no others.
        """
        if is_trained:
            tensors = stack(deltas[0].stack_shapes(), [tensors_of(delta) for delta in deltas])
            return Stack(tuple(deltas), with_parameters(deltas[0], tensors))
        key = (deltas[0].stack_key, is_exact)
        kept = self._stacks.get(key)
        if kept is None or not kept.serves(deltas, dtype, is_exact=is_exact):
            before = () if kept is None or is_exact else kept.members
            kept = self._stacks[key] = self._stacked(with_earlier(deltas, before), dtype)
        return kept

    def _stacked(self, members: Sequence[Delta], dtype: torch.dtype) -> Stack:
        made = stack(members[0].stack_shapes(), [self._tensors_of(delta) for delta in members])
        tensors = {name: tensor.to(dtype) if tensor.dim() > 2 else tensor for name, tensor in made.items()}
        return Stack(tuple(members), with_parameters(members[0], tensors), dtype)

    def _tensors_of(self, delta: Delta) -> dict[str, Tensor]:
        """``tensors_of``, computed once."""
        if id(delta) not in self._tensors:
            self._tensors[id(delta)] = delta, tensors_of(delta)
        return self._tensors[id(delta)][1]

    def clear(self) -> None:
        """Drop everything, because an adapter was removed."""
        self._stacks.clear()
        self._tensors.clear()


def with_earlier(deltas: Sequence[Delta], earlier: Sequence[Delta]) -> list[Delta]:
    """The deltas of a batch, followed by those of an earlier stack unless these are too many."""
    own = set(map(id, deltas))
    others = [delta for delta in earlier if id(delta) not in own]
    return [*deltas, *others] if len(deltas) + len(others) <= MAX_STACK_RATIO * len(deltas) else list(deltas)


def tensors_of(delta: nn.Module) -> dict[str, Tensor]:
    """The tensors in place of a delta's parameters, by dotted name."""
    own = {name: tensor for name, tensor in delta._parameters.items() if tensor is not None}
    below = {
        f"{name}.{k}": v for name, module in delta._modules.items() if module for k, v in tensors_of(module).items()
    }
    return {**own, **below}


def with_parameters(delta: D, tensors: Mapping[str, Tensor]) -> D:
    """A shallow copy of ``delta`` with these tensors in place of its parameters; ``delta`` does not change."""
    other = copy.copy(delta)
    own = {name: tensors[name] for name in delta._parameters if name in tensors}
    below = {
        name: module
        and with_parameters(module, {k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(name + ".")})
        for name, module in delta._modules.items()
    }
    other.__dict__.update(_parameters=own, _modules=below)
    return other


def stack(shapes: Mapping[str, tuple[int, ...]], members: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The parameters of several deltas as ``[K, …]``, each padded with zeros to its shape in ``shapes``."""
    return {name: torch.stack([padded(tensors[name], shape) for tensors in members]) for name, shape in shapes.items()}


def padded(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``tensor`` padded with zeros at the end of each dimension to ``shape``."""
    if tuple(tensor.shape) == shape:
        return tensor
    behind = [amount for have, want in zip(tensor.shape, shape, strict=True) for amount in (want - have, 0)]
    return F.pad(tensor, behind[::-1])
