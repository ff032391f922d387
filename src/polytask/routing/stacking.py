"""Parameters of several deltas stacked along a leading dimension, kept between batches."""

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
