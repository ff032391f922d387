"""Stacks the parameters of several deltas along a leading dimension, and caches the stacks between batches."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polytask.methods.delta import Delta

D = TypeVar("D", bound=nn.Module)


class StackCache:
    """The last stack of each kind of delta at a site, for deltas that do not train.

    Consecutive batches of the same tasks then copy nothing. Only one stack of each kind is kept, so memory grows with
    the adapters in a batch, not with those that are loaded.
    """

    def __init__(self) -> None:
        self._kept: dict[object, tuple[tuple[int, ...], torch.dtype, Delta]] = {}

    def get(self, deltas: Sequence[Delta], dtype: torch.dtype, *, is_trained: bool) -> Delta:
        """Stack deltas with equal keys: parameters ``[K, …]``, with matrices in ``dtype`` if the stack is cached."""
        if is_trained:
            return with_parameters(deltas[0], stack(deltas))
        which, key = tuple(map(id, deltas)), deltas[0].stack_key
        kept = self._kept.get(key)
        if kept is None or kept[:2] != (which, dtype):
            made = {name: p.to(dtype) if p.dim() > 2 else p for name, p in stack(deltas).items()}
            kept = self._kept[key] = (which, dtype, with_parameters(deltas[0], made))
        return kept[2]

    def clear(self) -> None:
        """Drop all stacks, because an adapter was removed."""
        self._kept.clear()


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


def stack(deltas: Sequence[Delta]) -> dict[str, Tensor]:
    """The parameters of deltas with equal keys as ``[K, …]``, padded with zeros to their stack shapes."""
    shapes = deltas[0].stack_shapes()
    trees = [tensors_of(delta) for delta in deltas]
    return {name: torch.stack([padded(tree[name], shape) for tree in trees]) for name, shape in shapes.items()}


def padded(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``tensor`` padded with zeros at the end of each dimension to ``shape``."""
    if tuple(tensor.shape) == shape:
        return tensor
    behind = [amount for have, want in zip(tensor.shape, shape, strict=True) for amount in (want - have, 0)]
    return F.pad(tensor, behind[::-1])
