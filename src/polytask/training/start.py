"""``Start``: the stored adapters that a training starts from, in place of random weights.

A task with few rows gains from weights that were trained on a related task with many (arXiv:1811.01088). Several
adapters are averaged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import torch

from polytask.adapters.adapter import Adapter
from polytask.adapters.averaging import Parents, head_of
from polytask.adapters.module import LoadedAdapter
from polytask.adapters.provenance import FRESH, TAKEN
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.errors import RecipeError
from polytask.methods import Method, Probe
from polytask.serialization import to_json

AUTO = "auto"
"""In place of names: a short trial chooses among the adapters of the store."""


@dataclass(frozen=True)
class Start:
    """The adapters that a training starts from; several are averaged.

    Attributes:
        parents: the adapters, their names and their weights.
    """

    parents: Parents

    @classmethod
    def of(cls, adapters: Sequence[Adapter], names: Sequence[str] | None = None) -> Start:
        """Start from these adapters, by default named as their tasks.

        Raises:
            IncompatibleAdapter: they have different backbones or methods.
        """
        return cls(Parents.of(adapters, names))

    @property
    def digest(self) -> str:
        """SHA-256 of the adapters' tensors and their weights in the average."""
        parents = zip(self.parents.adapters, self.parents.weights)
        return hashlib.sha256(repr([(a.tensor_digest, weight) for a, weight in parents]).encode()).hexdigest()

    def check_fits(self, backbone: Backbone, method: Method) -> None:
        """Refuse adapters of another backbone or method.

        Raises:
            IncompatibleAdapter: an adapter was trained on another backbone.
            RecipeError: it was trained by another method, or with other settings of this one.
        """
        if isinstance(method, Probe):
            raise RecipeError("a probe trains a head only, so there is nothing to start from. Choose a method")
        for name, adapter in zip(self.parents.names, self.parents.adapters):
            adapter.fits(backbone)
            own, wanted = adapter.method.explicit(), method.explicit()
            if own != wanted:
                raise RecipeError(
                    f"{name} cannot be the start, because it has {_difference(own, wanted)}. Train with its method "
                    "and settings, or start from another adapter"
                )

    def load_into(self, live: LoadedAdapter) -> dict[str, Any]:
        """Set the weights of an untrained adapter to the average.

        The head is taken over if its kind, labels and layers are equal, but not that of a regression, whose unit is
        that of its own targets. Any other head stays as it is.

        Returns:
            The header's field ``start``.
        """
        own = (live.kind, live.labels, live.head.layers)
        heads = {head_of(adapter.header) for adapter in self.parents.adapters}
        takes_head = heads == {own} and live.kind != "regression"
        tensors = self.parents.body() | (self.parents.head() if takes_head else {})
        parameters = dict(live.tree.named_parameters())
        with torch.no_grad():
            for name, tensor in tensors.items():
                parameters[name].copy_(tensor)
        return self.parents.to_json(TAKEN if takes_head else FRESH)


Source: TypeAlias = str | Adapter
StartFrom: TypeAlias = Start | Source | Sequence[Source] | None
"""What a training starts from: an adapter or several, as objects or by their names in a store. None: random weights."""


def start_from(given: StartFrom, store: Store | None = None) -> Start | None:
    """The start that is given as adapters or as their names.

    Args:
        given: adapters, or names in ``store``.
        store: the store to look names up in.

    Raises:
        RecipeError: a name is given without a store, or nothing that can be a start.
        NoSuchAdapter: the store has no such adapter.
    """
    if given is None or isinstance(given, Start):
        return given
    sources = [given] if isinstance(given, str | Adapter) else list(given)
    if not sources:
        return None
    adapters, names = zip(*(_adapter_and_name(source, store) for source in sources))
    return Start.of(adapters, names)


def starts_of(
    given: StartFrom | Mapping[str, StartFrom], jobs: Sequence[str], store: Store | None = None
) -> dict[str, Start | None]:
    """The start of each job, by the job's name: one for all of them, or a mapping."""
    if isinstance(given, Mapping):
        return {name: start_from(given.get(name), store) for name in jobs}
    shared = start_from(given, store)
    return dict.fromkeys(jobs, shared)


def recorded_start(kept: Mapping[str, Any] | None, store: Store) -> Start | None:
    """The start of an interrupted run, as its checkpoint records it (``Job.origin``), read from the store again."""
    if kept is None:
        return None
    names = [parent["name"] for parent in kept["adapters"]]
    weights = [parent["weight"] for parent in kept["adapters"]]
    return Start(Parents.of([store.get(name) for name in names], names, weights))


def _adapter_and_name(source: object, store: Store | None) -> tuple[Adapter, str]:
    if isinstance(source, Adapter):
        return source, source.header.task
    if not isinstance(source, str):
        raise RecipeError(f"{type(source).__name__} {source!r:.60} cannot be a start. Give an adapter or its name")
    if store is None:
        raise RecipeError(
            f"start={source!r} is a name, and no store is given to look it up in. Give the adapter, "
            f"pt.Store(folder).get({source!r}), or use pt.train_to_store"
        )
    return store.get(source), str(store.entry(source))


def _difference(own: Method, wanted: Method) -> str:
    """``size 32, not 64`` or ``the method lora, not houlsby``."""
    if type(own) is not type(wanted):
        return f"the method {own.name}, not {wanted.name}"
    ours, theirs = (to_json(cast("Any", method), whole=True) for method in (own, wanted))
    return ", ".join(f"{name} {ours[name]}, not {theirs[name]}" for name in ours if ours[name] != theirs[name])
