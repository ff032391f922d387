"""Stores for the tests of the server: small adapters of every method and head on a tiny backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from polytask.adapters.adapter import Adapter
from polytask.adapters.module import LoadedAdapter
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.data.task import Kind
from polytask.methods import IA3, FullFineTuning, Houlsby, LayerNormOnly, LoRA, Method
from tests.conftest import BAD, GOOD

TEXTS = (*GOOD, *BAD, "a film", "you win", "the plot was not great at all and they vote", "bad")
KINDS: dict[str, tuple[Kind, tuple[str, ...], str]] = {
    "classification": ("classification", ("bad", "good"), "accuracy"),
    "multilabel": ("multilabel", ("x", "y", "z"), "macro_f1"),
    "regression": ("regression", (), "pearson"),
    "span": ("span", (), "span_f1"),
}
SERVED: dict[str, tuple[str, Method]] = {
    "mood": ("classification", Houlsby(4)),
    "topic": ("classification", LoRA(2)),
    "top": ("classification", Houlsby(4, layers=1)),
    "topmost": ("classification", LoRA(2, layers=1)),
    "norms": ("classification", LayerNormOnly()),
    "several": ("multilabel", IA3()),
    "stars": ("regression", Houlsby(3)),
    "own": ("classification", FullFineTuning()),
    "qa": ("span", Houlsby(3)),
}


def random_adapter(
    backbone: Backbone,
    task: str,
    kind: str = "classification",
    method: Method | None = None,
    seed: int = 0,
    recipe: Mapping[str, Any] | None = None,
    decides: Mapping[str, Mapping[str, Any] | None] | None = None,
    trained_dtype: str | None = None,
    labels: tuple[str, ...] | None = None,
) -> Adapter:
    """An untrained adapter with random parameters; ``decides`` has its calibration and thresholds."""
    import torch

    kind_, usual, metric = KINDS[kind]
    labels = labels or usual
    method = method or Houlsby(4)
    live = LoadedAdapter(backbone, method, kind_, labels, key=(seed, task))
    generator = torch.Generator().manual_seed(seed * 1000 + sum(map(ord, task)))
    tensors = {
        name: tensor + 0.2 * torch.randn(tensor.shape, generator=generator) for name, tensor in live.tensors().items()
    }
    own = {"task": task, "kind": kind_, "labels": labels, "metric": metric, "score": 0.5 + seed / 1000}
    takes = "question+context" if kind == "span" else "single"
    return Adapter.create(
        tensors,
        method=method,
        backbone=backbone,
        recipe={"seed": seed, "max_length": 32, **(recipe or {})},
        inputs=takes,
        decides=decides,
        result={} if trained_dtype is None else {"environment": {"dtype": trained_dtype}},
        **own,
    )


def fill(store: Store, backbone: Backbone, names: Sequence[str] = tuple(SERVED)) -> Store:
    """Put these tasks of ``SERVED`` into a store."""
    for name in names:
        kind, method = SERVED[name]
        store.put(random_adapter(backbone, name, kind, method))
    return store


def with_labels(adapter: Adapter, labels: Sequence[str]) -> Adapter:
    """The same adapter with other label names."""
    header = adapter.header
    made = Adapter.create(
        adapter.tensors,
        task=header.task,
        kind=header.head.kind,
        labels=labels,
        method=header.method,
        backbone=_Identity(header),
        metric=header.metric,
        score=header.score,
        recipe=header.recipe,
        inputs=header.inputs,
    )
    return replace(made)


class _Identity:
    """The identity of a backbone, from an adapter's header."""

    def __init__(self, header: object) -> None:
        of = header.backbone  # type: ignore[attr-defined]
        self.name, self.architecture, self.hidden, self.num_layers = of.name, of.architecture, of.hidden, of.layers
        self.fingerprint, self.pooling = of.fingerprint, header.pooling  # type: ignore[attr-defined]
        self.tokenizer_fingerprint = header.tokenizer  # type: ignore[attr-defined]
