"""Averages adapters: one adapter whose weights are the weighted mean of those of several (arXiv:2302.07027).

A mean of weights is useful if the adapters are near each other, as those of related tasks that started from the same
weights (``train(start=…)``) are. Of adapters that started from different random weights it is worth little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from polytask.adapters.adapter import NONE, Adapter
from polytask.adapters.header import Header, plain_name
from polytask.adapters.provenance import TAKEN
from polytask.errors import AdapterError, IncompatibleAdapter, UnknownName

HEAD = "head."
"""The prefix of the names of a head's tensors."""
READING = ("max_length", "long", "stride")
"""Settings of a recipe that say how a text is read."""


@dataclass(frozen=True)
class Parents:
    """Adapters of one backbone and method, and their weights in an average.

    Attributes:
        adapters: at least one.
        names: what each is called in messages and headers: ``mood@1``.
        weights: from 0, with a sum of 1.
    """

    adapters: tuple[Adapter, ...]
    names: tuple[str, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(
        cls, adapters: Sequence[Adapter], names: Sequence[str] | None = None, weights: Sequence[float] | None = None
    ) -> Parents:
        """These adapters.

        Args:
            adapters: at least one.
            names: by default those of their tasks.
            weights: from 0, not all 0; divided by their sum. By default all are equal.

        Raises:
            AdapterError: the weights are not one for each adapter, or out of range.
            IncompatibleAdapter: the adapters have different backbones or methods.
        """
        named = tuple(names or (adapter.header.task for adapter in adapters))
        own = cls(tuple(adapters), named, _normalised(weights, len(adapters)))
        for name, adapter in zip(named[1:], adapters[1:]):
            _check_alike(named[0], adapters[0].header, name, adapter.header)
        return own

    @property
    def have_equal_heads(self) -> bool:
        """Whether kind, labels and layers of all heads are equal."""
        first = head_of(self.adapters[0].header)
        return all(head_of(adapter.header) == first for adapter in self.adapters)

    def body(self) -> dict[str, Tensor]:
        """The average of all tensors but those of heads and of detectors of none of these."""
        return self._average([_named(adapter, head=False) for adapter in self.adapters])

    def head(self) -> dict[str, Tensor]:
        """The average of the tensors of the heads, which are equal in shape (``have_equal_heads``)."""
        return self._average([_named(adapter, head=True) for adapter in self.adapters])

    def head_of(self, name: str) -> dict[str, Tensor]:
        """The tensors of the head of one of the adapters."""
        return dict(_named(self.adapters[self.names.index(name)], head=True))

    def to_json(self, head: str) -> dict[str, Any]:
        """The header's field ``start``; see ``provenance`` for ``head``."""
        parents = [
            {"name": name, "tensor_digest": adapter.tensor_digest, "weight": weight}
            for name, adapter, weight in zip(self.names, self.adapters, self.weights, strict=True)
        ]
        return {"adapters": parents, "head": head}

    def _average(self, parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The weighted mean of each tensor, computed in float64."""
        averages = {}
        for name in parts[0]:
            terms = [weight * part[name].double() for weight, part in zip(self.weights, parts, strict=True)]
            averages[name] = sum(terms[1:], terms[0]).float()
        return averages


def average_adapters(
    adapters: Sequence[Adapter],
    task: str,
    *,
    weights: Sequence[float] | None = None,
    head: str | None = None,
    names: Sequence[str] | None = None,
) -> Adapter:
    """The weighted average of adapters, as an adapter of its own.

    Calibration, thresholds and a detector of none of these are left out: they were fitted to other answers. The new
    adapter was not evaluated, so its score is 0.

    Args:
        adapters: at least two, of one backbone and method.
        task: the name of the new adapter's task.
        weights: one for each adapter, from 0; divided by their sum. By default all are equal.
        head: the name of the adapter whose head is taken over. By default the heads are averaged, too; then their
            labels must be equal.
        names: what the adapters are called in messages and in the header (default: by their tasks).

    Raises:
        AdapterError: there are fewer than two adapters, the weights are out of range, or the labels differ.
        IncompatibleAdapter: the adapters have different backbones or methods.
        UnknownName: ``head`` is none of the names.
    """
    plain_name(task)
    if len(adapters) < 2:
        raise AdapterError(f"{len(adapters)} adapters cannot be averaged. Give at least two")
    parents = Parents.of(adapters, names, weights)
    if head is not None and head not in parents.names:
        raise UnknownName("adapter to take the head of", head, parents.names)
    if head is None:
        _check_equal_heads(parents)
    own = parents.adapters[0 if head is None else parents.names.index(head)].header
    tensors = {**parents.body(), **(parents.head() if head is None else parents.head_of(head))}
    recipe = {name: own.recipe[name] for name in READING if name in own.recipe}
    header = replace(own, task=task, score=0.0, recipe=recipe, result={}, versions={}, source=None)
    header = replace(header, calibration=None, thresholds=None, none=None, start=parents.to_json(head or TAKEN))
    return Adapter.with_digest(header.to_object(), tensors)


def head_of(header: Header) -> tuple[object, ...]:
    """What two heads must share to be averaged: kind, labels and layers."""
    return header.head.kind, header.head.labels, header.prediction_layers


def _named(adapter: Adapter, *, head: bool) -> dict[str, Tensor]:
    """An adapter's tensors: those of its head, or all others without its detector of none of these."""
    chosen = {name: tensor for name, tensor in adapter.tensors.items() if not name.startswith(NONE)}
    return {name: tensor for name, tensor in chosen.items() if name.startswith(HEAD) == head}


def _normalised(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    if weights is None:
        return (1 / count,) * count
    if len(weights) != count:
        raise AdapterError(f"there are {count} adapters and {len(weights)} weights. Give one for each")
    total = sum(weights)
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not 0 < total < math.inf:
        raise AdapterError(f"the weights {', '.join(map(str, weights))} are out of range: from 0, and not all 0")
    return tuple(weight / total for weight in weights)


def _check_alike(name: str, header: Header, other_name: str, other: Header) -> None:
    of = {
        "backbone": (header.backbone.fingerprint, other.backbone.fingerprint),
        "tokenizer": (header.tokenizer, other.tokenizer),
        "pooling": (header.pooling, other.pooling),
        "method": (header.method.explicit(), other.method.explicit()),
    }
    for what, (own, theirs) in of.items():
        if own != theirs:
            shown = f": {own} and {theirs}" if what in ("method", "pooling") else ""
            raise IncompatibleAdapter(f"{name} and {other_name} cannot be averaged: they differ in their {what}{shown}")


def _check_equal_heads(parents: Parents) -> None:
    if not parents.have_equal_heads:
        heads = "; ".join(
            f"{name}: {', '.join(adapter.header.head.labels) or adapter.header.head.kind}"
            for name, adapter in zip(parents.names, parents.adapters)
        )
        raise AdapterError(
            f"the heads cannot be averaged, because their labels differ ({heads}). Name the head to keep"
        )
